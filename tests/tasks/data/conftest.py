"""What the tests of data share: a home of their own, a manifest of one set, and a web server with faults to order."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.suite import manifest
from tasks.suite.manifest import DatasetEntry, FileEntry, Manifest, VariantEntry


@pytest.fixture
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data root, cache and D4RL folder to be, which the environment points to."""
    for variable, folder in (("AAREN_DATA", "data"), ("AAREN_CACHE", "cache"), ("D4RL_DATASET_DIR", "d4rl")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the manifest hold one dataset, Toy, with these files per variant: `declare(official=(file,))`."""

    def apply(**variants: tuple[FileEntry, ...]) -> None:
        entries = {
            name: VariantEntry(name, "none stated", {}, files, fix="bring toy.csv") for name, files in variants.items()
        }
        stub = Manifest({"Toy": DatasetEntry("Toy", "forecasting", entries)}, {})
        monkeypatch.setattr(manifest, "load_manifest", lambda: stub)

    return apply


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
