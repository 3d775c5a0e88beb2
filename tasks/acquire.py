"""Making a dataset ready: `get` brings its files into the data root, or says what a person has to do."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.errors import DatasetError, DatasetUnavailable
from tasks.fetch import Progress, download
from tasks.locate import Resolved, can_fetch, data_root, download_root, resolve
from tasks.suite import manifest
from tasks.suite.manifest import ArchiveEntry, DatasetEntry, VariantEntry
from tasks.unpack import unpack
from tasks.verify import check_file, verified


def writable_root() -> Path:
    """The data root, or `downloads/` in the cache where the data root is read-only.

    A folder without any write bit counts as read-only for the superuser too: it was meant so.
    """
    root = data_root()
    nearest = next(folder for folder in (root, *root.parents) if folder.exists())
    allowed = nearest.is_dir() and os.access(nearest, os.W_OK) and nearest.stat().st_mode & 0o222
    return root if allowed else download_root()


def get(name: str, force: bool = False, progress: Progress | None = None) -> tuple[Resolved, bool]:
    """Make a dataset's official variant ready (or the one it has): what was found, and whether it was fetched now.

    What is there already is verified, not fetched again. A file there that is not what it must be is only replaced
    with `force`, which keeps the old one as `<file>.bad`.

    Raises `UnknownDataset`, `DatasetUnavailable` (no script can fetch it: the fix says how a person can), or
    `DatasetError` (a bad file in place, no network, no space, a bad archive).
    """
    found = manifest.load_manifest().find(name)
    entry = next(iter(found.variants.values()))
    try:
        return verified(resolve(found.name, entry.name)), False
    except DatasetUnavailable:
        if not can_fetch(entry):
            raise
    except DatasetError as error:
        if not force:
            raise
        _set_aside(Path(error.path))
        if not can_fetch(entry):
            return verified(resolve(found.name, entry.name)), False
    root = writable_root()
    layout = next((files for files in entry.layouts if all(file.urls for file in files)), ())
    for file in layout:
        target = root / file.path
        strict = file.check == "strict"
        download(file.urls, target, file.bytes if strict else None, file.sha256 if strict else None, progress=progress)
    if not layout:
        _fetch_archive(found, entry, root, progress)
    return verified(resolve(found.name, entry.name)), True


def _set_aside(path: Path) -> None:
    if not any(path.is_relative_to(root) for root in (data_root(), download_root())):
        reason = "is bad, and lies outside the folders that this script writes to"
        raise DatasetError(path, reason, "remove or replace it by hand (reinstall the package it belongs to)")
    try:
        os.replace(path, path.with_name(f"{path.name}.bad"))
    except OSError as error:
        reason = f"is bad and cannot be renamed ({error.strerror or error})"
        raise DatasetError(path, reason, "remove it, or point AAREN_DATA to a folder that can be written") from error


def _fetch_archive(found: DatasetEntry, entry: VariantEntry, root: Path, progress: Progress | None) -> None:
    archive = entry.archives[0]
    layout = next(files for files in entry.layouts if files[0].format == archive.format)
    path = _archive_in_place(found, archive)
    ours = path is None
    if path is None:
        path = root / archive.path
        strict = archive.check == "strict"
        download(archive.urls, path, archive.bytes, archive.sha256 if strict else None, zipped=True, progress=progress)
    try:
        check_file(path, archive)
        unpack(path, layout, root)
    finally:
        if ours:  # its files are in place, or it is of no use; a user's own archive stays
            path.unlink(missing_ok=True)


def _archive_in_place(found: DatasetEntry, archive: ArchiveEntry) -> Path | None:
    """An archive that the user has put into the data root: beside the files to be, or at the top."""
    candidates = (data_root() / archive.path, data_root() / f"{found.name}.zip", download_root() / archive.path)
    return next((path for path in candidates if path.is_file()), None)
