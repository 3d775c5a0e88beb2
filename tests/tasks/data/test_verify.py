"""Hash before parse: every kind of wrong file is refused, and an unchanged file is hashed once."""

from __future__ import annotations

import gzip
import hashlib
import logging
import lzma
import os
import random
from pathlib import Path

import pytest

from tasks import verify
from tasks.data import DatasetError, DatasetUnavailable, read_text, resolve, verified
from tasks.suite.manifest import FileEntry

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
