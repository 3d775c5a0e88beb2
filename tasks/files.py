"""Reading a file that may not be what its name says: bounded, UTF-8, and never an HTML page taken for data."""

from __future__ import annotations

import lzma
from pathlib import Path

from tasks.errors import DatasetError

MAX_TEXT_BYTES = 2 * 1024**3  # the largest official text file, FaceDetection_TRAIN.ts, has 0.8 GB
FETCH_AGAIN = "fetch it again (python scripts/data.py get NAME --force) or put the official file in its place"

_PIECE = 1 << 20
_SIGNATURES = (
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data"),
)


def foreign_kind(path: Path) -> str | None:
    """What a file holds in place of data (nothing, an HTML page, gzip ...); None if nothing gives it away."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "nothing: the file is empty"
    folded = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if folded.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "an HTML or XML page, most likely a server's error message"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a UTF-8 file, plain or xz (by its suffix), without a byte order mark.

    `max_bytes` bounds the unpacked size, so that a small archive cannot fill the memory. Raises `DatasetError`
    for an unreadable file, a page or archive in place of data, more than `max_bytes`, broken xz, or bytes that
    are not UTF-8 (with the line).
    """
    try:
        kind = foreign_kind(path)
        if kind:
            raise DatasetError(path, f"holds {kind}", FETCH_AGAIN)
        opener = lzma.open if path.suffix == ".xz" else open
        with opener(path, "rb") as stream:
            content = bytearray()
            while len(content) <= max_bytes and (piece := stream.read(_PIECE)):  # one read would reserve max_bytes
                content += piece
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
