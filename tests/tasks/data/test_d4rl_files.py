"""D4RL's files from download to episodes: mirrors, resume, hash, cache, and not one altered bit read as data."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from tasks import fetch
from tasks.acquire import get
from tasks.data import DatasetError, load_cached, resolve, verified
from tasks.rl.d4rl import PARSE_VERSION, as_episodes, parse
from tasks.suite import manifest
from tasks.suite.manifest import DatasetEntry, FileEntry, Manifest, VariantEntry

NAME = "hopper_medium-v2.hdf5"


@pytest.fixture
def hopper(data_home, monkeypatch, server, d4rl_arrays, d4rl_file):
    """The bytes of a small hopper-medium, official for the manifest; of its two addresses, one is down."""
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    content = d4rl_file(d4rl_arrays("hopper", [900, 800, 300], tail=9)).read_bytes()
    digest, urls = hashlib.sha256(content).hexdigest(), (server.url("down"), server.url(NAME))
    file = FileEntry("trajectories", "hdf5", f"d4rl/{NAME}", len(content), digest, urls=urls)
    entry = VariantEntry("official", "none stated", {}, (file,), statistics={"complete_steps": 2000, "trajectories": 4})
    stub = Manifest({"hopper-medium": DatasetEntry("hopper-medium", "rl", {"official": entry})}, {})
    monkeypatch.setattr(manifest, "load_manifest", lambda: stub)
    server.files[NAME] = content
    return content


def test_a_broken_download_goes_on_at_the_mirror_and_is_read(hopper, server, data_home):
    server.faults[NAME] = ["break"]
    seen = []
    found, fetched = get("hopper-medium-v2", progress=lambda *p: seen.append(p))
    assert fetched
    assert found.files["trajectories"] == data_home / f"data/d4rl/{NAME}"
    assert [path for path, _ in server.requests] == ["down", NAME, "down", NAME]
    assert server.requests[-1][1] is not None  # it asked for the rest only
    assert seen[-1] == (len(hopper), len(hopper))
    episodes = as_episodes(load_cached(found, parse, PARSE_VERSION))
    assert episodes.lengths.tolist() == [900, 800, 300]
    again = as_episodes(load_cached(found, parse, PARSE_VERSION))
    np.testing.assert_array_equal(again.observations, episodes.observations)


@pytest.mark.parametrize("folder", ["d4rl", "home/.d4rl/datasets"])
def test_files_that_d4rl_itself_has_fetched_are_used_as_they_are(hopper, data_home, folder, monkeypatch):
    if folder != "d4rl":
        monkeypatch.delenv("D4RL_DATASET_DIR")
        monkeypatch.setenv("HOME", str(data_home / "home"))
    (data_home / folder).mkdir(parents=True)
    (data_home / folder / NAME).write_bytes(hopper)
    found = verified(resolve("Hopper-medium"))
    assert (found.source, found.label) == ("d4rl", "hopper-medium")
    assert len(as_episodes(load_cached(found, parse, PARSE_VERSION))) == 3
    assert get("hopper-medium") == (found, False)


def _put(data_home, content):
    path = data_home / f"data/d4rl/{NAME}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_no_flipped_bit_gets_past_the_hash(hopper, data_home):
    rng = np.random.default_rng(0)
    for index, bit in enumerate(rng.choice(8 * len(hopper), 300, replace=False)):
        spoilt = bytearray(hopper)
        spoilt[bit // 8] ^= 1 << (bit % 8)
        path = _put(data_home, bytes(spoilt))
        os.utime(path, ns=(index, index))  # a new file to the memory of hashes, however fast these follow each other
        with pytest.raises(DatasetError, match=r"SHA-256.*data\.py get hopper-medium --force"):
            load_cached(resolve("hopper-medium"), parse, PARSE_VERSION)
    _put(data_home, hopper)
    assert len(as_episodes(load_cached(resolve("hopper-medium"), parse, PARSE_VERSION))) == 3


def test_cut_files_and_pages_are_refused(hopper, data_home):
    sizes = np.linspace(0, len(hopper) - 1, 100).astype(int)
    for content in (*(hopper[:size] for size in sizes), b"<html>404</html>".ljust(len(hopper))):
        _put(data_home, content)
        with pytest.raises(DatasetError, match="hopper-medium"):
            load_cached(resolve("hopper-medium"), parse, PARSE_VERSION)
