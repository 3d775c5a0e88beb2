"""Downloads against a server of the test's own: whole and right in its place, or not there and said why."""

from __future__ import annotations

import errno
import gzip
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from tasks import fetch
from tasks.data import DatasetError, cache_root
from tasks.fetch import download

CONTENT = bytes(range(256)) * 4000  # several pieces of a transfer
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def home(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    return data_home


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_a_whole_file_arrives_and_nothing_else(server, home):
    server.files["a"] = CONTENT
    seen = []
    address = download([server.url("a")], home / "x/a.csv", len(CONTENT), SHA, progress=lambda *p: seen.append(p))
    assert address == server.url("a")
    assert (home / "x/a.csv").read_bytes() == CONTENT
    assert left(home / "x") == ["a.csv"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_transfer_goes_on_where_it_stopped(server, home):
    server.files["a"] = CONTENT
    server.faults["a"] = ["break", "break"]
    download([server.url("a")], home / "a.csv", len(CONTENT), SHA)
    assert (home / "a.csv").read_bytes() == CONTENT
    first, *later = (wanted for _, wanted in server.requests)
    starts = [int(str(wanted).removeprefix("bytes=").rstrip("-")) for wanted in later]
    assert first is None
    assert len(CONTENT) // 4 < starts[0] < starts[1] < len(CONTENT)


def test_a_later_run_goes_on_where_an_interrupted_one_stopped(server, home, monkeypatch):
    server.files["a"] = CONTENT

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download([server.url("a")], home / "a.csv", len(CONTENT), SHA, progress=interrupt)
    assert [path.suffix for path in home.glob("a.csv*")] == [".part"]
    download([server.url("a")], home / "a.csv", len(CONTENT), SHA)
    assert (home / "a.csv").read_bytes() == CONTENT
    assert server.requests[1][1] is not None


KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.fetch import download

download([sys.argv[1]], Path(sys.argv[2]), progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_download_leaves_nothing_once_another_was_whole(server, home):
    server.files["a"] = CONTENT
    done = subprocess.run([sys.executable, "-c", KILLED, server.url("a"), str(home / "x/a.csv")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(left(home / "x")) > 1, "no temporary file beside the part"
    download([server.url("a")], home / "x/a.csv", len(CONTENT), SHA)
    assert [path.name for path in (home / "x").iterdir()] == ["a.csv"]


def test_a_server_that_cannot_resume_is_asked_for_the_whole(server, home):
    server.files["a"] = CONTENT
    server.faults["a"] = ["break", "no range"]
    download([server.url("a")], home / "a.csv", len(CONTENT), SHA)
    assert (home / "a.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"other bytes" * 50, CONTENT, CONTENT + b"more"])
def test_a_stale_partial_file_does_no_harm(server, home, stale):
    server.files["a"] = CONTENT
    part = home / f"a.csv.{hashlib.sha256(server.url('a').encode()).hexdigest()[:8]}.part"
    part.write_bytes(stale)
    download([server.url("a")], home / "a.csv", len(CONTENT), SHA)
    assert (home / "a.csv").read_bytes() == CONTENT
    assert "a.csv" in left(home)
    assert not part.exists()


def test_mirrors_are_tried_in_order_and_again(server, home):
    server.files["b"] = CONTENT
    server.faults["b"] = ["refuse"]
    address = download([server.url("gone"), server.url("b")], home / "a.csv", len(CONTENT), SHA)
    assert address == server.url("b")
    assert [path for path, _ in server.requests] == ["gone", "b", "gone", "b"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (CONTENT[:-1] + b"\0", "another SHA-256"),
        (CONTENT[:-1], "bytes, not"),
        (CONTENT + b"\0", "more than the"),
        (b"<!doctype html><p>moved", "an HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"", "empty"),
    ],
)
def test_wrong_content_is_never_put_in_place(server, home, body, reason):
    server.files["a"] = body
    with pytest.raises(DatasetError, match=reason) as caught:
        download([server.url("a")], home / "x/a.csv", len(CONTENT), SHA)
    assert caught.value.path == str(home / "x/a.csv")
    assert left(home / "x") == []


def test_without_network_the_message_has_the_address_and_the_place(server, home):
    address = server.url("a")
    server.http.server_close()  # nobody listens there any more
    with pytest.raises(DatasetError) as caught:
        download([address], home / "a.csv", len(CONTENT), SHA)
    assert "no connection" in caught.value.reason
    assert address in caught.value.fix
    assert str(home / "a.csv") in caught.value.fix


def test_gzip_addresses_are_unpacked_within_bounds(server, home):
    server.files["a.csv.gz"] = gzip.compress(CONTENT)
    download([server.url("a.csv.gz")], home / "a.csv", len(CONTENT), SHA)
    assert (home / "a.csv").read_bytes() == CONTENT
    for body, reason in ((gzip.compress(bytes(10**7)), "unpacks to more"), (b"\x1f\x8bno gzip", "no whole gzip")):
        server.files["b.csv.gz"] = body
        with pytest.raises(DatasetError, match=reason):
            download([server.url("b.csv.gz")], home / "b.csv", len(CONTENT), SHA)
    assert [name for name in left(home) if name.startswith("b.csv")] == []


def test_two_downloads_of_one_file_do_not_mix(server, home):
    server.files["a"] = CONTENT
    name = hashlib.sha256(str(home / "a.csv").encode()).hexdigest()[:24]
    lock = cache_root() / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock), pytest.raises(DatasetError, match="another process"):
        download([server.url("a")], home / "a.csv", len(CONTENT), SHA)
    assert not (home / "a.csv").exists()


def test_a_full_disk_is_said_and_leaves_nothing(server, home, monkeypatch):
    server.files["a"] = CONTENT

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(DatasetError, match="No space left"):
        download([server.url("a")], home / "x/a.csv", len(CONTENT), SHA)
    assert "a.csv" not in left(home / "x")
