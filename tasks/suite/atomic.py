"""Writing a small file so that a reader, or a power cut, sees the old one or the new one, nothing between."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


class WriteError(OSError):
    """A file could not be written; the message says which, why and what to do. Nothing half-written remains."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}; {_remedy(error)}")
        self.path = path
        self.errno = error.errno


def _remedy(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk or quota is full: free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder is read-only: choose one that can be written, or mend its permissions"
    return "mend the cause and run the same command again"


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put `data` at `path` through a temporary file beside it, fsync and `os.replace`; makes the parent folders.

    Args:
        durable: fsync the file and its folder, so that it survives a power cut; False for a heartbeat.

    Raises:
        WriteError: if the folder cannot be made or written, or the disk is full; the old file stays as it was.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private, unlike any other file a user finds in results/
        os.replace(temporary, path)
        temporary = None
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that writers of `path` left behind when they were killed.

    Only for whoever holds the lock that guards `path`: another writer's temporary file looks the same.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
