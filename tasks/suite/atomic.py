"""Writing a small file so that a reader, or a power cut, sees the old one or the new one, nothing between."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SILENT_S = 24 * 3600.0  # after which a writer that cannot be asked counts as dead
# The file's name, the writer's machine and process id, and what `tempfile` adds.
_TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,9})\.\w+\.tmp")


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
    """Put `data` at `path`; as `replacing`, for what is in memory already."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary file beside `path`, to be written in the block: put in its place by `os.replace` if that ends well.

    Makes the parent folders, and removes from the last one what killed writers left there.

    Args:
        durable: fsync the file and its folder, so that it survives a power cut; False for a heartbeat.

    Raises:
        WriteError: if the folder cannot be made or written, or the disk is full; the old file stays as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}.{_machine()}-{os.getpid()}."
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        _remove_stale(path.parent, now=temporary.stat().st_mtime)
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private, unlike any other file a user finds in results/
        os.replace(temporary, path)
        temporary = None
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


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


def _remove_stale(folder: Path, now: float) -> None:
    """Delete the temporary files of dead writers: a process that is gone or, of another machine, one silent for a day.

    Args:
        now: by the clock of the disk that `folder` is on, which may be another machine's.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            named = _TEMPORARY.fullmatch(entry.name)
            if named is None:
                continue
            with contextlib.suppress(OSError):  # somebody else removed it, or may and we may not
                if named["machine"] == _machine():
                    stale = not _is_alive(int(named["pid"]))
                else:
                    stale = entry.stat().st_mtime < now - SILENT_S
                if stale:
                    os.unlink(entry.path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


@cache
def _machine() -> str:
    """Where a process id means something: this host since it was started and, in a container, the container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # Linux; hosts that share a disk may share a name
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
