"""Downloads against a server of the test's own: whole and right in its place, or not there and said why."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from tasks import acquire, fetch
from tasks.acquire import get, writable_root
from tasks.data import DatasetError, DatasetUnavailable, cache_root
from tasks.fetch import download
from tasks.suite import manifest
from tasks.suite.manifest import ArchiveEntry, DatasetEntry, FileEntry, Manifest, VariantEntry

CONTENT = bytes(range(256)) * 4000  # several pieces of a transfer
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A loopback web server: `files` it serves, `faults` it commits on a path, `requests` it saw (path, Range)."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path, wanted = handler.path.lstrip("/"), handler.headers.get("Range")
        self.requests.append((path, wanted))
        fault = self.faults[path].pop(0) if self.faults.get(path) else ""
        if path not in self.files or fault == "refuse":
            handler.send_error(503 if fault else 404)
            return
        body, start = self.files[path], 0
        if wanted and fault != "no range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        part = body[start:]
        handler.wfile.write(part[: len(part) // 2] if fault == "break" else part)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, folder in (("AAREN_DATA", "data"), ("AAREN_CACHE", "cache"), ("D4RL_DATASET_DIR", "d4rl")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path


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


def test_a_read_only_data_root_sends_downloads_to_the_cache(home):
    assert writable_root() == home / "data"  # it does not exist yet, and can be made
    (home / "data").mkdir(mode=0o555)
    assert writable_root() == home / "cache/downloads"
    (home / "data").chmod(0o755)
    assert writable_root() == home / "data"


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch):
    def apply(family: str, entry: VariantEntry) -> None:
        stub = Manifest({"Toy": DatasetEntry("Toy", family, {entry.name: entry})}, {})
        monkeypatch.setattr(manifest, "load_manifest", lambda: stub)

    return apply


def test_get_fetches_once_and_then_finds_it(server, home, declare):
    server.files["toy.csv"] = CONTENT
    file = FileEntry("series", "csv", "toy/toy.csv", bytes=len(CONTENT), sha256=SHA, urls=(server.url("toy.csv"),))
    declare("forecasting", VariantEntry("official", "none stated", {}, (file,)))
    found, fetched = get("toy")
    assert (found.source, found.sha256["series"], fetched) == ("data root", SHA, True)
    assert get("Toy")[1] is False
    assert len(server.requests) == 1


def test_get_replaces_a_bad_file_only_when_told_to(server, home, declare):
    server.files["toy.csv"] = CONTENT
    file = FileEntry("series", "csv", "toy.csv", bytes=len(CONTENT), sha256=SHA, urls=(server.url("toy.csv"),))
    declare("forecasting", VariantEntry("official", "none stated", {}, (file,)))
    for bad in (CONTENT[::-1], CONTENT[:10]):
        (home / "data").mkdir(exist_ok=True)
        (home / "data/toy.csv").write_bytes(bad)
        with pytest.raises(DatasetError, match="--force"):
            get("Toy")
        assert (home / "data/toy.csv").read_bytes() == bad
        get("Toy", force=True)
        assert (home / "data/toy.csv").read_bytes() == CONTENT
        assert (home / "data/toy.csv.bad").read_bytes() == bad


def test_get_of_what_no_script_can_fetch_says_what_a_person_does(declare):
    declare("events", VariantEntry("official", "credentialed", {}, fix="sign the agreement at https://physionet.org"))
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
def archived(server, home, declare) -> dict[str, bytes]:
    members = {"Toy/Toy_TRAIN.ts": b"train" * 100, "Toy/Toy_TEST.ts": b"test" * 100, "Toy/Toy.txt": b"about"}
    files = tuple(
        FileEntry(part.lower(), "ts", f"Toy/Toy_{part}.ts", sha256=hashlib.sha256(content).hexdigest())
        for part, content in (("TRAIN", b"train" * 100), ("TEST", b"test" * 100))
    )
    urls = (server.url("page.zip"), server.url("toy.zip"))
    archives = (ArchiveEntry("Toy/Toy.zip", "ts", sha256="0" * 64, check="warn", urls=urls),)
    declare("classification", VariantEntry("official", "none stated", {}, files, archives))
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


def test_a_bad_file_of_someone_elses_folder_is_left_alone(server, home, declare):
    file = FileEntry("trajectories", "hdf5", "d4rl/toy.hdf5", len(CONTENT), SHA, urls=(server.url("toy"),))
    declare("rl", VariantEntry("official", "none stated", {}, (file,)))
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
