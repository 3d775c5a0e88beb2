"""`get`: a dataset made ready, or a message that says what a person has to do; never half of one."""

from __future__ import annotations

import errno
import hashlib
import zipfile
from pathlib import Path

import pytest

from tasks import acquire, fetch
from tasks.acquire import get, writable_root
from tasks.data import DatasetError, DatasetUnavailable
from tasks.suite import manifest
from tasks.suite.manifest import ArchiveEntry, DatasetEntry, FileEntry, Manifest, VariantEntry

CONTENT = b"date,OT\n2016-07-01 00:00,1.5\n"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def home(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    return data_home


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_a_read_only_data_root_sends_downloads_to_the_cache(home):
    assert writable_root() == home / "data"  # it does not exist yet, and can be made
    (home / "data").mkdir(mode=0o555)
    assert writable_root() == home / "cache/downloads"
    (home / "data").chmod(0o755)
    assert writable_root() == home / "data"


@pytest.fixture
def declare_entry(monkeypatch: pytest.MonkeyPatch):
    def apply(family: str, entry: VariantEntry) -> None:
        stub = Manifest({"Toy": DatasetEntry("Toy", family, {entry.name: entry})}, {})
        monkeypatch.setattr(manifest, "load_manifest", lambda: stub)

    return apply


def test_get_fetches_once_and_then_finds_it(server, home, declare_entry):
    server.files["toy.csv"] = CONTENT
    file = FileEntry("series", "csv", "toy/toy.csv", bytes=len(CONTENT), sha256=SHA, urls=(server.url("toy.csv"),))
    declare_entry("forecasting", VariantEntry("official", "none stated", {}, (file,)))
    found, fetched = get("toy")
    assert (found.source, found.sha256["series"], fetched) == ("data root", SHA, True)
    assert get("Toy")[1] is False
    assert len(server.requests) == 1


def test_get_replaces_a_bad_file_only_when_told_to(server, home, declare_entry):
    server.files["toy.csv"] = CONTENT
    file = FileEntry("series", "csv", "toy.csv", bytes=len(CONTENT), sha256=SHA, urls=(server.url("toy.csv"),))
    declare_entry("forecasting", VariantEntry("official", "none stated", {}, (file,)))
    for bad in (CONTENT[::-1], CONTENT[:10]):
        (home / "data").mkdir(exist_ok=True)
        (home / "data/toy.csv").write_bytes(bad)
        with pytest.raises(DatasetError, match="--force"):
            get("Toy")
        assert (home / "data/toy.csv").read_bytes() == bad
        get("Toy", force=True)
        assert (home / "data/toy.csv").read_bytes() == CONTENT
        assert (home / "data/toy.csv.bad").read_bytes() == bad


def test_get_of_what_no_script_can_fetch_says_what_a_person_does(declare_entry):
    declare_entry(
        "events", VariantEntry("official", "credentialed", {}, fix="sign the agreement at https://physionet.org")
    )
    with pytest.raises(DatasetUnavailable, match="sign the agreement"):
        get("Toy")


def _archive(path: Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.fixture
def archived(server, home, declare_entry) -> dict[str, bytes]:
    members = {"Toy/Toy_TRAIN.ts": b"train" * 100, "Toy/Toy_TEST.ts": b"test" * 100, "Toy/Toy.txt": b"about"}
    files = tuple(
        FileEntry(part.lower(), "ts", f"Toy/Toy_{part}.ts", sha256=hashlib.sha256(content).hexdigest())
        for part, content in (("TRAIN", b"train" * 100), ("TEST", b"test" * 100))
    )
    urls = (server.url("page.zip"), server.url("toy.zip"))
    archives = (ArchiveEntry("Toy/Toy.zip", "ts", sha256="0" * 64, check="warn", urls=urls),)
    declare_entry("classification", VariantEntry("official", "none stated", {}, files, archives))
    server.files |= {"page.zip": b"<html>busy</html>", "toy.zip": _archive(home / "t.zip", members)}
    return members


def test_get_unpacks_an_archive_and_removes_it(server, home, archived):
    found, _ = get("Toy")
    assert found.files["train"].read_bytes() == archived["Toy/Toy_TRAIN.ts"]
    assert left(home / "data") == ["Toy_TEST.ts", "Toy_TRAIN.ts"]


def test_get_takes_the_archive_that_the_user_has_and_keeps_it(server, home, archived):
    (home / "data").mkdir()
    (home / "data/Toy.zip").write_bytes(server.files["toy.zip"])
    get("Toy")
    assert server.requests == []
    assert left(home / "data") == ["Toy.zip", "Toy_TEST.ts", "Toy_TRAIN.ts"]


def test_a_bad_archive_leaves_nothing(server, home, archived):
    server.files["toy.zip"] = server.files["toy.zip"][:-30]
    with pytest.raises(DatasetError, match="is not a whole"):
        get("Toy")
    assert left(home / "data") == []


def test_a_bad_file_of_someone_elses_folder_is_left_alone(server, home, declare_entry):
    file = FileEntry("trajectories", "hdf5", "d4rl/toy.hdf5", len(CONTENT), SHA, urls=(server.url("toy"),))
    declare_entry("rl", VariantEntry("official", "none stated", {}, (file,)))
    (home / "d4rl").mkdir()
    (home / "d4rl/toy.hdf5").write_bytes(b"bad")
    with pytest.raises(DatasetError, match="outside the folders"):
        get("Toy", force=True)
    assert (home / "d4rl/toy.hdf5").read_bytes() == b"bad"


def test_a_bad_file_that_cannot_be_set_aside_is_said(server, home, archived, monkeypatch):
    (home / "data/Toy").mkdir(parents=True)
    for part in ("TRAIN", "TEST"):
        (home / f"data/Toy/Toy_{part}.ts").write_bytes(b"bad")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(acquire.os, "replace", refuse)
    with pytest.raises(DatasetError, match="Read-only file system"):
        get("Toy", force=True)
