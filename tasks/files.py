"""Small, strict file helpers: atomic writes, bounded reading of text, and what a wrong file looks like."""

from __future__ import annotations

import lzma
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tasks.errors import DatasetError

MAX_TEXT_BYTES = 2 * 1024**3  # the largest official text file, FaceDetection_TRAIN.ts, has 0.8 GB
FETCH_AGAIN = "fetch the file again (python scripts/data.py get NAME) or replace it with the official one"

_SIGNATURES = (
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data"),
)


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and put it in place in one step.

    Raises OSError (disk full, read-only folder) with nothing half-written left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def foreign_kind(path: Path) -> str | None:
    """What a file that should hold data holds instead (an HTML page, gzip ...), or None if nothing gives it away."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "an empty file"
    folded = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if folded.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "an HTML or XML page, most likely a server's error message"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a UTF-8 file, plain or xz (by its suffix), without a byte order mark.

    `max_bytes` bounds the unpacked size, so a small archive cannot fill the memory. Raises `DatasetError` for an
    unreadable file, a page or archive in place of data, more than `max_bytes`, broken xz, or bytes that are not UTF-8.
    """
    try:
        kind = foreign_kind(path)
        if kind:
            raise DatasetError(path, f"holds {kind}", FETCH_AGAIN)
        opener = lzma.open if path.suffix == ".xz" else open
        with opener(path, "rb") as stream:
            content = stream.read(max_bytes + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise DatasetError(path, f"is not a whole xz file ({error})", FETCH_AGAIN) from error
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", FETCH_AGAIN) from error
    if len(content) > max_bytes:
        raise DatasetError(path, f"holds more than {max_bytes} bytes of text", FETCH_AGAIN)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(path, f"line {line} is not UTF-8 text ({error.reason})", FETCH_AGAIN) from error
