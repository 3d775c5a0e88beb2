"""Finding and verifying data: the search order, the variants, and every kind of wrong file refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.data import ConfigError, DatasetError, DatasetUnavailable, UnknownDataset, resolve, verified
from tasks.suite.manifest import FileEntry, load_manifest

REAL_ROOT = os.environ.get("AAREN_DATA")
CONTENT = b"date,OT\n" + b"".join(b"2016-07-01 %02d:00,%d.5\n" % (hour, hour) for hour in range(24)) * 20
SHA = hashlib.sha256(CONTENT).hexdigest()
STRICT = FileEntry("series", "csv", "toy/toy.csv", bytes=len(CONTENT), sha256=SHA)


@pytest.fixture(autouse=True)
def home(data_home: Path) -> Path:
    return data_home


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_present_file_is_found_and_its_hash_measured(home, declare):
    declare(official=(STRICT,))
    path = put(home / "data/toy/toy.csv")
    found = verified(resolve("toy"))
    assert (found.dataset, found.variant, found.source, found.label) == ("Toy", "official", "data root", "Toy")
    assert found.files == {"series": path}
    assert found.sha256 == {"series": SHA}


def test_search_order_is_data_root_then_download(home, declare):
    declare(official=(STRICT,))
    with pytest.raises(DatasetUnavailable):
        resolve("Toy")
    put(home / "cache/downloads/toy/toy.csv")
    assert resolve("Toy").source == "download"
    put(home / "data/toy/toy.csv")
    assert resolve("Toy").source == "data root"


def test_d4rls_own_folder_is_searched(home, declare):
    declare(official=(FileEntry("trajectories", "hdf5", "d4rl/toy.hdf5", bytes=len(CONTENT), sha256=SHA),))
    put(home / "d4rl/toy.hdf5")
    assert verified(resolve("Toy")).source == "d4rl"


def test_a_layout_is_never_mixed_from_two_formats(home, declare):
    files = [FileEntry(role, fmt, f"{role}.{fmt}", sha256=SHA) for fmt in ("ts.xz", "ts") for role in ("train", "test")]
    declare(official=tuple(files))
    put(home / "data/train.ts.xz")
    put(home / "data/test.ts")
    with pytest.raises(DatasetUnavailable):
        resolve("Toy")
    put(home / "data/train.ts")
    assert {path.name for path in resolve("Toy").files.values()} == {"train.ts", "test.ts"}


def test_auto_takes_official_else_the_best_that_is_ready(home, declare):
    sample = FileEntry("series", "csv", "toy/sample.csv", sha256=SHA)
    declare(official=(STRICT,), sample=(sample,), synthetic=())
    assert resolve("Toy").variant == "synthetic"
    put(home / "data/toy/sample.csv")
    assert resolve("Toy").label == "Toy-sample"
    put(home / "data/toy/toy.csv")
    assert resolve("Toy").label == "Toy"
    assert resolve("Toy", "sample").label == "Toy-sample"


def test_a_damaged_official_file_is_reported_not_passed_over(home, declare):
    declare(official=(STRICT,), synthetic=())
    put(home / "data/toy/toy.csv", CONTENT[:-1])
    with pytest.raises(DatasetError, match=r"truncated or altered.*replace it by hand: bring toy\.csv"):
        resolve("Toy")


def test_unavailable_says_what_where_and_the_step(home, declare, monkeypatch):
    declare(official=(STRICT,))
    with pytest.raises(DatasetUnavailable) as caught:
        resolve("Toy")
    assert caught.value.path == str(home / "data/toy/toy.csv")
    assert caught.value.fix == "bring toy.csv"
    monkeypatch.setenv("AAREN_DATA", str(home / "typo"))
    with pytest.raises(DatasetUnavailable, match=r"data root .*typo does not exist"):
        resolve("Toy")


def test_unknown_names_bring_near_misses_and_the_list():
    with pytest.raises(UnknownDataset, match=r"did you mean .*ETTh1.*Known: ETTh1, ETTh2"):
        resolve("EETh1")
    with pytest.raises(ConfigError, match=r"dataset\.variant='ofical': .*did you mean official.*auto, official"):
        resolve("ETTh1", "ofical")


def test_errors_survive_pickling_between_workers():
    for error in (
        ConfigError("seed", -1, "must not be negative"),
        UnknownDataset("x", ["ETTh1"]),
        DatasetUnavailable("a", "b", "c"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


def test_without_data_root_the_embedded_sets_are_ready():
    ready = {}
    for name in load_manifest().datasets:
        with contextlib.suppress(DatasetUnavailable):
            ready[name] = verified(resolve(name)).source
    generated = {name for name, source in ready.items() if source == "generated"}
    assert {"Sin", "known/seasonal", "known/hawkes"} <= generated
    embedded = {name: source for name, source in ready.items() if name not in generated}
    surrogates = {name: "aaren" for name, entry in load_manifest().datasets.items() if entry.family == "rl"}
    assert embedded == {"JapaneseVowels": "sktime", "extra/us-temperatures": "vega-datasets"} | surrogates
    assert resolve("Sin").label == "Sin"


def test_every_file_of_a_real_data_root_has_its_manifest_hash(monkeypatch, home):
    """With $AAREN_DATA set, on the real files; else on one that stands for them."""
    names = list(load_manifest().datasets)
    if REAL_ROOT:
        monkeypatch.setenv("AAREN_DATA", REAL_ROOT)
    checked = 0
    for name in names:
        for variant in load_manifest().datasets[name].variants:
            try:
                found = verified(resolve(name, variant))
            except DatasetUnavailable:
                continue
            assert all(found.sha256[role] == sha for role, sha in resolve(name, variant).sha256.items())
            checked += len(found.files)
    assert checked >= 4


def test_finding_data_imports_no_heavy_library():
    code = (
        "import sys\nfrom tasks.data import resolve, verified\nverified(resolve('JapaneseVowels'))\n"
        "heavy = {'torch', 'pandas', 'sktime', 'pooch', 'pyarrow'}\nprint(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
