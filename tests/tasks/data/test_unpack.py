"""Archives that mean harm, or are merely broken, change nothing on the disk."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import zipfile
from pathlib import Path

import pytest

from tasks.data import DatasetError
from tasks.suite.manifest import FileEntry
from tasks.unpack import unpack

TRAIN, TEST = b"@data\n" + b"1.5,2.5:a\n" * 60, b"@data\n" + b"0.5,0.5:b\n" * 60
LAYOUT = tuple(
    FileEntry(role, "ts", f"Toy/Toy_{role.upper()}.ts", len(content), hashlib.sha256(content).hexdigest())
    for role, content in (("train", TRAIN), ("test", TEST))
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))


def make(path: Path, *extra: tuple[str | zipfile.ZipInfo, bytes], train: bytes = TRAIN) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Toy_TRAIN.ts", train)
        archive.writestr("sub/Toy_TEST.ts", TEST)
        for name, content in extra:
            archive.writestr(name, content)
    return path


def written(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_the_layout_and_nothing_else_is_written(tmp_path):
    archive = make(tmp_path / "toy.zip", ("readme.txt", b"hello"), ("folder/", b""))
    assert unpack(archive, LAYOUT, tmp_path / "root") == []
    assert written(tmp_path / "root") == ["Toy/Toy_TEST.ts", "Toy/Toy_TRAIN.ts"]
    assert (tmp_path / "root/Toy/Toy_TRAIN.ts").read_bytes() == TRAIN


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "\\evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:evil.txt"]
)
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    archive = make(tmp_path / "toy.zip", (name, b"evil"))
    with pytest.raises(DatasetError, match="unsafe path"):
        unpack(archive, LAYOUT, tmp_path / "root")
    assert written(tmp_path) == ["toy.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = (kind | 0o777) << 16
    archive = make(tmp_path / "toy.zip", (link, b"/etc/passwd"))
    with pytest.raises(DatasetError, match="link or device"):
        unpack(archive, LAYOUT, tmp_path / "root")
    assert written(tmp_path) == ["toy.zip"]


def test_more_than_ten_times_the_declared_size_is_refused(tmp_path):
    archive = make(tmp_path / "toy.zip", train=bytes(10 * len(TRAIN) + 1))
    with pytest.raises(DatasetError, match="more than 10 times"):
        unpack(archive, LAYOUT, tmp_path / "root")
    undeclared = tuple(FileEntry(file.role, "ts", file.path, check="warn") for file in LAYOUT)
    with pytest.raises(DatasetError, match="more than 10 times"):
        unpack(make(tmp_path / "toy.zip", train=bytes(10**6)), undeclared, tmp_path / "root")
    assert written(tmp_path) == ["toy.zip"]


def test_a_member_twice_or_absent_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"holds Toy_TRAIN\.ts 2 times"):
        unpack(make(tmp_path / "toy.zip", ("copy/Toy_TRAIN.ts", TRAIN)), LAYOUT, tmp_path / "root")
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(DatasetError, match=r"holds Toy_TRAIN\.ts 0 times"):
        unpack(tmp_path / "toy.zip", LAYOUT, tmp_path / "root")


def test_one_wrong_file_keeps_the_right_one_out_as_well(tmp_path):
    archive = make(tmp_path / "toy.zip", train=TRAIN[::-1])
    with pytest.raises(DatasetError, match="SHA-256"):
        unpack(archive, LAYOUT, tmp_path / "root")
    assert written(tmp_path / "root") == []


def test_damaged_archives_end_in_an_error_or_the_right_files(tmp_path, monkeypatch):
    archive = make(tmp_path / "toy.zip")
    whole = archive.read_bytes()
    chance = random.Random(0)
    damaged = [whole[:at] for at in chance.sample(range(len(whole)), 100)]
    for bit in chance.sample(range(8 * len(whole)), 300):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    refused = 0
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of them would cost seconds and prove nothing here
    for number, content in enumerate(damaged):
        archive.write_bytes(content)
        root = tmp_path / f"root{number}"
        try:
            unpack(archive, LAYOUT, root)
            assert (root / "Toy/Toy_TRAIN.ts").read_bytes() == TRAIN
            assert (root / "Toy/Toy_TEST.ts").read_bytes() == TEST
        except DatasetError:
            refused += 1
            assert written(root) == []
    assert refused > 200
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
