"""Hash before parse: the only defence against a file that was altered but still reads."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN, foreign_kind, write_atomic
from tasks.locate import Resolved, cache_root
from tasks.suite.manifest import ArchiveEntry, FileEntry

log = logging.getLogger(__name__)
_CHUNK = 1 << 20


def fingerprints(path: Path) -> dict[str, str]:
    """SHA-256 of a file's bytes (`sha256`) and git's object name for them (`git_blob`).

    The result is remembered in the cache by the file's path, size, mtime and ctime in nanoseconds: an unchanged file is
    hashed once. A cache that cannot be written costs time, nothing else.
    """
    stat = path.stat()
    stamp = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    memo = cache_root() / "hashes" / f"{hashlib.sha256(stamp[0].encode()).hexdigest()[:24]}.json"
    try:
        stored = json.loads(memo.read_bytes())
        if stored["stamp"] == stamp:
            return {"sha256": stored["sha256"], "git_blob": stored["git_blob"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or damaged: measure again
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {stat.st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
            blob.update(chunk)
    measured = {"sha256": sha256.hexdigest(), "git_blob": blob.hexdigest()}
    content = json.dumps({"stamp": stamp, **measured}).encode()
    try:
        write_atomic(memo, lambda stream: None if stream.write(content) else None)
    except OSError as error:
        log.debug("hash of %s not remembered: %s", path, error)
    return measured


def check_file(path: Path, entry: FileEntry | ArchiveEntry) -> tuple[str, str | None]:
    """Hash a file against its manifest row: its SHA-256, and a warning where the row allows a difference.

    Raises `DatasetError` if the file cannot be read, is evidently something else (an HTML page, gzip, an LFS pointer),
    or differs from a hash that the manifest marks strict.
    """
    try:
        kind = foreign_kind(path)
        measured = fingerprints(path)
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", FETCH_AGAIN) from error
    sha256 = measured["sha256"]
    git_blob = getattr(entry, "git_blob", None)
    if sha256 == entry.sha256 or (entry.sha256 is None and git_blob == measured["git_blob"]):
        return sha256, None
    if kind and not (kind.startswith("a zip") and isinstance(entry, ArchiveEntry)):
        raise DatasetError(path, f"holds {kind}", FETCH_AGAIN)
    if entry.check == "strict":
        raise DatasetError(
            path, f"has SHA-256 {sha256}, not {entry.sha256}: it was altered or is another file", FETCH_AGAIN
        )
    if entry.sha256 or git_blob:
        return sha256, f"{path}: differs from the official fingerprint; its shape is checked when it is read"
    return sha256, f"{path}: no official fingerprint is known; its shape is checked when it is read"


def verified(resolved: Resolved) -> Resolved:
    """The same dataset with the measured SHA-256 of every file; `DatasetError` if one is not what it must be."""
    measured = {}
    for role, path in resolved.files.items():
        measured[role], warning = check_file(path, resolved.entries[role])
        if warning:
            log.warning(warning)
    return replace(resolved, sha256=MappingProxyType(measured))
