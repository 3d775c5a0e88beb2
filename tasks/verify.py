"""Hash before parse: the only defence against a file that was altered and still reads."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN, foreign_kind
from tasks.locate import Resolved, cache_root, how_to_mend
from tasks.suite import manifest
from tasks.suite.atomic import write_atomic
from tasks.suite.manifest import ArchiveEntry, FileEntry

log = logging.getLogger(__name__)
_CHUNK = 1 << 20


class Fingerprints(NamedTuple):
    """SHA-256 of a file's bytes, and git's object name for them (SHA-1)."""

    sha256: str
    git_blob: str


def measure(path: Path) -> Fingerprints:
    """Read the whole file and hash it. Raises OSError if it cannot be read."""
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
            blob.update(chunk)
    return Fingerprints(sha256.hexdigest(), blob.hexdigest())


def fingerprints(path: Path, fresh: bool = False) -> Fingerprints:
    """`measure`, remembered in the cache by path, size, mtime and ctime (ns): an unchanged file is hashed once.

    `fresh` hashes again all the same. A cache that cannot be written costs time, nothing else.
    """
    stat = path.stat()
    stamp = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    memo = cache_root() / "hashes" / f"{hashlib.sha256(stamp[0].encode()).hexdigest()[:24]}.json"
    if not fresh:
        try:
            stored = json.loads(memo.read_bytes())
            if stored["stamp"] == stamp:
                return Fingerprints(stored["sha256"], stored["git_blob"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent or damaged: measure again
    measured = measure(path)
    try:
        write_atomic(memo, json.dumps({"stamp": stamp, **measured._asdict()}).encode(), durable=False)
    except OSError as error:
        log.debug("the hash of %s is not remembered: %s", path, error)
    return measured


def check_file(path: Path, entry: FileEntry | ArchiveEntry, fresh: bool = False) -> tuple[str, str | None]:
    """Hash a file against its manifest row: its SHA-256, and a warning where the row allows a difference.

    Raises `DatasetError` if the file cannot be read, is evidently something else (an HTML page, gzip, an LFS
    pointer), or differs from a hash that the manifest marks strict.
    """
    try:
        kind = foreign_kind(path)
        measured = fingerprints(path, fresh)
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", FETCH_AGAIN) from error
    git_blob = entry.git_blob if isinstance(entry, FileEntry) else None
    if measured.sha256 == entry.sha256 or (entry.sha256 is None and git_blob == measured.git_blob):
        return measured.sha256, None
    zipped = isinstance(entry, ArchiveEntry) or entry.format == "npz"  # an npz is a zip, too
    if kind and not (zipped and kind.startswith("a zip")):
        raise DatasetError(path, f"holds {kind}", FETCH_AGAIN)
    if entry.check == "strict":
        reason = f"has SHA-256 {measured.sha256}, not {entry.sha256}: it was altered or is another file"
        raise DatasetError(path, reason, FETCH_AGAIN)
    known = "differs from the official fingerprint" if entry.sha256 or git_blob else "has no known fingerprint"
    return measured.sha256, f"{path}: {known}; its shape is checked when it is read"


def verified(resolved: Resolved) -> Resolved:
    """The same dataset with the measured SHA-256 of every file; `DatasetError` if one is not what it must be.

    A file whose manifest row allows another hash is logged as a warning.
    """
    measured = {}
    for role, path in resolved.files.items():
        expected = resolved.sha256.get(role)
        unlisted = FileEntry(role, "csv", str(path), sha256=expected, check="strict" if expected else "warn")
        row = resolved.entries.get(role, unlisted)
        try:
            measured[role], warning = check_file(path, row)
        except DatasetError as error:
            found = manifest.load_manifest().datasets.get(resolved.dataset)
            fix = how_to_mend(found, resolved.entry, row) if found else error.fix
            raise DatasetError(error.path, error.reason, fix) from error
        if warning:
            log.warning(warning)
    return replace(resolved, sha256=MappingProxyType(measured))
