"""Lines and numbers of a data file: what both text formats of the UEA archive share, and the rules for
them.
"""

from __future__ import annotations

import codecs
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN, foreign_kind

NUMBER_BYTES = b"0123456789+-.eE, \t"
MISSING_BYTES = b"?NnAa"
# PEMS-SF has the longest line of the archive, about 1.3 MB; a longer one is no data set, and may be a bomb.
MAX_LINE_BYTES = 64 * 2**20


def line_error(path: Path, line: int, reason: str) -> DatasetError:
    """The error for one line of a data file; readers bind path and line and hand it on as `error(reason)`."""
    return DatasetError(path, f"line {line}: {reason}", FETCH_AGAIN)


def parse_channel(text: bytes, missing_allowed: bool, error: Callable[[str], DatasetError]) -> list[float]:
    """The comma-separated numbers of one channel.

    Plain decimal numbers only: Python's own float() would also take `1_0`, `inf`, `nan` and other scripts'
    digits. `?` and `NaN` become NaN where `missing_allowed`. Raises `error(reason)`.
    """
    strange = text.translate(None, NUMBER_BYTES)
    if strange and not (missing_allowed and not strange.translate(None, MISSING_BYTES)):
        token = next(token for token in text.split(b",") if token.translate(None, NUMBER_BYTES))
        raise error(_complaint(token, missing_allowed))
    tokens = text.decode("ascii").split(",")
    try:
        if strange:
            return [float("nan") if _is_missing(token) else _number(token) for token in tokens]
        return list(map(float, tokens))
    except ValueError:
        bad = next(token for token in tokens if not _is_missing(token) and not _is_number(token))
        raise error(_complaint(bad.encode(), missing_allowed)) from None


def _number(token: str) -> float:
    value = float(token)
    if value != value:  # float() takes "-nan" and "+nan", which are no declared way to say "missing"
        raise ValueError(token)
    return value


def _is_number(token: str) -> bool:
    try:
        _number(token)
    except ValueError:
        return False
    return True


def _is_missing(token: str) -> bool:
    return token.strip(" \t") == "?" or token.strip(" \t").lower() == "nan"


def _complaint(token: bytes, missing_allowed: bool) -> str:
    shown = token.strip()[:40].decode("utf-8", "backslashreplace")
    if _is_missing(shown) and not missing_allowed:
        return f"value {shown!r} is missing, although the header says that nothing is missing"
    return f"{shown!r} is not a finite decimal number" if shown else "an empty value"


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line with its end) of a plain or xz-compressed text file; a UTF-8 mark is dropped.

    Raises DatasetError for a missing or empty file, other packings, a web page, and a damaged or cut xz
    stream.
    """
    try:
        kind = foreign_kind(path)
        if kind:
            raise DatasetError(path, f"holds {kind}", FETCH_AGAIN)
        with path.open("rb") as raw:
            packed = raw.read(6) == b"\xfd7zXZ\0"
        number = 0
        with lzma.open(path) if packed else path.open("rb") as handle:
            while line := handle.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise line_error(path, number, f"longer than {MAX_LINE_BYTES} bytes")
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not number:
            raise DatasetError(path, "holds an empty file", FETCH_AGAIN)
    except (lzma.LZMAError, EOFError) as error:
        raise DatasetError(path, f"is not a whole xz file ({error})", FETCH_AGAIN) from error
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", FETCH_AGAIN) from error
