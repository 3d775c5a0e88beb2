"""Finding and verifying data: the search order, the variants, and every kind of wrong file refused."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import verify
from tasks.data import ConfigError, DatasetError, DatasetUnavailable, UnknownDataset, read_text, resolve, verified
from tasks.suite import manifest
from tasks.suite.manifest import DatasetEntry, FileEntry, Manifest, VariantEntry, load_manifest

REAL_ROOT = os.environ.get("AAREN_DATA")
CONTENT = b"date,OT\n" + b"".join(b"2016-07-01 %02d:00,%d.5\n" % (hour, hour) for hour in range(24)) * 20
SHA = hashlib.sha256(CONTENT).hexdigest()
STRICT = FileEntry("series", "csv", "toy/toy.csv", bytes=len(CONTENT), sha256=SHA)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty data root and cache of the test's own."""
    for variable, folder in (("AAREN_DATA", "data"), ("AAREN_CACHE", "cache"), ("D4RL_DATASET_DIR", "d4rl")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch):
    """Make the manifest hold one dataset, Toy, with these files per variant."""

    def apply(**variants: tuple[FileEntry, ...]) -> None:
        entries = {
            name: VariantEntry(name, "none stated", {}, files, fix="bring toy.csv") for name, files in variants.items()
        }
        stub = Manifest({"Toy": DatasetEntry("Toy", "forecasting", entries)}, {})
        monkeypatch.setattr(manifest, "load_manifest", lambda: stub)

    return apply


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
    assert embedded == {"JapaneseVowels": "sktime", "extra/us-temperatures": "vega-datasets"}
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


def _wrong_files() -> dict[str, bytes]:
    chance = random.Random(0)
    wrong = {f"cut at {at}": CONTENT[:at] for at in chance.sample(range(len(CONTENT)), 100)}
    for bit in chance.sample(range(8 * len(CONTENT)), 300):
        flipped = bytearray(CONTENT)
        flipped[bit // 8] ^= 1 << bit % 8
        wrong[f"bit {bit}"] = bytes(flipped)
    page = b"<!DOCTYPE html><html><body>404</body></html>"
    return wrong | {
        "empty": b"",
        "page": page,
        "page as long as the file": page.ljust(len(CONTENT)),
        "gzip": gzip.compress(CONTENT),
        "byte order mark": b"\xef\xbb\xbf" + CONTENT,
        "CRLF": CONTENT.replace(b"\n", b"\r\n"),
        "another file": CONTENT[::-1],
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64,
        "longer": CONTENT + b"\n",
    }


def test_every_wrong_file_is_refused(home, declare):
    declare(official=(STRICT,))
    path = put(home / "data/toy/toy.csv")
    verified(resolve("Toy"))
    for content in _wrong_files().values():
        path.write_bytes(content)
        with pytest.raises(DatasetError) as caught:
            verified(resolve("Toy"))
        assert caught.value.path == str(path)
        assert caught.value.reason
        assert caught.value.fix


def test_an_interrupted_download_is_no_dataset(home, declare):
    declare(official=(STRICT,))
    put(home / "data/toy/toy.csv.12345678.part", CONTENT[:100])
    with pytest.raises(DatasetUnavailable):
        resolve("Toy")


def test_the_hash_is_measured_once_for_an_unchanged_file(home, declare, monkeypatch):
    declare(official=(STRICT,))
    path = put(home / "data/toy/toy.csv")
    verified(resolve("Toy"))
    measured = []
    real = verify.measure
    monkeypatch.setattr(verify, "measure", lambda path: measured.append(path) or real(path))
    verified(resolve("Toy"))
    assert measured == []
    stat = path.stat()
    path.write_bytes(CONTENT.replace(b"1.5", b"9.5", 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # an edit that hides its time is noticed all the same
    with pytest.raises(DatasetError, match="SHA-256"):
        verified(resolve("Toy"))
    assert measured == [path]


def test_a_damaged_or_unwritable_hash_memory_only_costs_time(home, declare, monkeypatch):
    declare(official=(STRICT,))
    put(home / "data/toy/toy.csv")
    verified(resolve("Toy"))
    (memo,) = (home / "cache/hashes").iterdir()
    for content in (b"", b"{}", b"[1]", b"\xff", memo.read_bytes()[:-3]):
        memo.write_bytes(content)
        assert verified(resolve("Toy")).sha256 == {"series": SHA}
    monkeypatch.setenv("AAREN_CACHE", str(put(home / "a file") / "below"))
    assert verified(resolve("Toy")).sha256 == {"series": SHA}


def test_where_the_official_bytes_are_uncertain_a_difference_warns(home, declare, caplog):
    declare(official=(FileEntry("series", "csv", "toy/toy.csv", sha256="0" * 64, check="warn"),))
    path = put(home / "data/toy/toy.csv")
    with caplog.at_level(logging.WARNING):
        assert verified(resolve("Toy")).sha256 == {"series": SHA}
    assert "differs from the official fingerprint" in caplog.text
    for content in (b"<html>", gzip.compress(CONTENT), b""):
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            verified(resolve("Toy"))


def test_a_git_object_name_is_a_fingerprint(home, declare, caplog):
    # `git hash-object` of a file that holds "hello\n"
    name = "ce013625030ba8dba906f756967f9e9ca394464a"
    declare(official=(FileEntry("series", "csv", "toy/toy.csv", git_blob=name, check="warn"),))
    put(home / "data/toy/toy.csv", b"hello\n")
    verified(resolve("Toy"))
    assert caplog.text == ""


def test_text_is_read_with_bounds(tmp_path):
    import lzma

    assert read_text(put(tmp_path / "a.csv", b"\xef\xbb\xbfa,b\n")) == "a,b\n"
    assert read_text(put(tmp_path / "a.ts.xz", lzma.compress(b"a,b\n"))) == "a,b\n"
    bomb = put(tmp_path / "bomb.ts.xz", lzma.compress(bytes(10**7)))
    with pytest.raises(DatasetError, match="more than 1000 bytes"):
        read_text(bomb, max_bytes=1000)
    whole = lzma.compress(CONTENT)
    for broken in (whole[:-20], whole[:100] + b"\0\0" + whole[102:], b"no xz at all"):
        with pytest.raises(DatasetError, match="xz"):
            read_text(put(tmp_path / "broken.ts.xz", broken))
    with pytest.raises(DatasetError, match="line 3 is not UTF-8"):
        read_text(put(tmp_path / "latin.csv", "a\nb\n\xe9\n".encode("latin-1")))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_text(tmp_path / "gone.csv")
