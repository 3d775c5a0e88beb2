"""A strict reader of `.ts` (and xz-compressed `.ts`) files, the text format of the UEA archive.

sktime's reader takes undeclared labels, NaN, inf, `?` although nothing is declared missing, and 1e400 in
silence, and needs minutes for SpokenArabicDigits; this one refuses the former and needs seconds for the
latter. Line comments (`#`) belong to the header: one among the data would make a case vanish without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tasks.classification.panel import Panel, PanelBuilder
from tasks.classification.text import line_error, parse_channel, read_lines
from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN

_FIELDS = {
    "problemname",
    "timestamps",
    "missing",
    "univariate",
    "dimensions",
    "equallength",
    "serieslength",
    "classlabel",
}
_ALIASES = {"dimension": "dimensions"}  # the spelling of the archive's first release


@dataclass(frozen=True)
class Header:
    """What a `.ts` header declares; None where it is silent."""

    missing: bool
    channels: int | None
    equal_length: bool
    length: int | None
    classes: tuple[str, ...]


def read_ts(path: Path) -> Panel:
    """Reads one part (TRAIN or TEST) of a `.ts` set. Raises DatasetError with file, line and reason."""
    lines = read_lines(path)
    header = _read_header(path, lines)
    builder = PanelBuilder(path, header.classes, header.channels, header.length, header.equal_length)
    for number, raw in lines:
        line = raw.strip(b" \t\r\n")
        if not line:
            continue
        error = partial(line_error, path, number)
        body, colon, name = line.rpartition(b":")
        if not colon:
            raise error("no ':' before a class label: the line is cut short, or no case")
        label = _decode(name.strip(), error)
        if not raw.endswith(b"\n") and any(other != label and other.startswith(label) for other in header.classes):
            raise error(f"the file ends inside a line, and the label {label!r} may be cut short")
        channels = [parse_channel(text, header.missing, error) for text in body.split(b":")]
        lengths = {len(channel) for channel in channels}
        if len(lengths) > 1:
            raise error(f"the channels differ in length ({min(lengths)} to {max(lengths)} steps)")
        builder.add(number, np.array(channels, dtype=np.float64).T, label)
    return builder.panel()


def _read_header(path: Path, lines: Iterator[tuple[int, bytes]]) -> Header:
    """Consumes the lines up to and with `@data`."""
    found: dict[str, str] = {}
    for number, raw in lines:
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        error = partial(line_error, path, number)
        text = _decode(line, error)
        if not text.startswith("@"):
            raise error(f"{text[:40]!r} stands before @data but is neither a field (@) nor a comment (#)")
        key, _, value = text[1:].partition(" ")
        key, value = _ALIASES.get(key.lower(), key.lower()), value.strip()
        if key == "data":
            if value:
                raise error("@data takes no value")
            return _check_header(found, error)
        if key == "targetlabel":
            raise error("a regression set (@targetLabel), where a class label is needed")
        if key not in _FIELDS:
            raise error(f"unknown header field @{key[:40]}")
        if key in found:
            raise error(f"header field @{key} stands twice")
        found[key] = value
    raise DatasetError(path, "the file ends before @data: the header is truncated", FETCH_AGAIN)


def _check_header(found: dict[str, str], error: Callable[[str], DatasetError]) -> Header:
    def flag(key: str, default: bool) -> bool:
        value = found.get(key, str(default)).lower()
        if value not in ("true", "false"):
            raise error(f"@{key} is {value[:40]!r}, not true or false")
        return value == "true"

    def count(key: str) -> int | None:
        value = found.get(key)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value) > 0):
            raise error(f"@{key} is {value[:40]!r}, not a whole number above 0")
        return int(value)

    if flag("timestamps", False):
        raise error("@timeStamps is true; series with time stamps are not supported")
    if "classlabel" not in found:
        raise error("the header lacks @classLabel")
    labelled, *classes = found["classlabel"].split()
    if labelled.lower() != "true" or not classes:
        raise error("@classLabel must be 'true' followed by the names of the classes")
    if len(set(classes)) != len(classes):
        raise error("@classLabel names a class twice")
    channels, univariate = count("dimensions"), flag("univariate", False)
    if univariate and channels not in (None, 1):
        raise error(f"@univariate is true, but @dimensions is {channels}")
    equal = flag("equallength", False)
    # With unequal lengths the field is used for the longest, the shortest or nothing at all: not a thing to
    # check.
    length = count("serieslength") if equal else None
    return Header(flag("missing", False), 1 if univariate else channels, equal, length, tuple(classes))


def _decode(text: bytes, error: Callable[[str], DatasetError]) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise error(f"{text[:40]!r} is not UTF-8 text") from None
