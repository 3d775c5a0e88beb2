"""Slow readers of `.ts`, `.arff` and series CSV, written from the formats' descriptions: what the files really say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np

Cases = tuple[list, list, list]  # cases (channels of values, None where missing), labels, classes
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
TS_KEYS = (
    "problemname",
    "timestamps",
    "missing",
    "univariate",
    "dimensions",
    "dimension",
    "equallength",
    "serieslength",
    "classlabel",
)
DATES = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d")


class Bad(Exception):
    """What the file says makes no sense."""


def _need(condition: Any) -> None:
    if not condition:
        raise Bad


def ts(content: bytes) -> Cases | None:
    """What a `.ts` file says, or None for a bad one."""
    try:
        return _ts(content)
    except (Bad, StopIteration, KeyError, UnicodeDecodeError, ValueError, IndexError):
        return None


def _ts(content: bytes) -> Cases:
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    at = next(i for i, line in enumerate(lines) if line.strip().lower() == b"@data")
    found: dict[str, str] = {}
    for line in (line.strip() for line in lines[:at]):
        if not line or line[:1] == b"#":
            continue
        key, _, value = line.decode().partition(" ")
        _need(key[0] == "@" and key[1:].lower() in TS_KEYS)
        key = "dimensions" if key.lower() == "@dimension" else key[1:].lower()
        _need(key not in found)
        found[key] = value.strip()
    flags = {}
    for key in ("timestamps", "missing", "univariate", "equallength"):
        flags[key] = {"true": True, "false": False}[found.get(key, "false").lower()]
    _need(not flags["timestamps"])
    if "dimensions" in found:
        _need(re.fullmatch("[0-9]{1,9}", found["dimensions"]) and int(found["dimensions"]) > 0)
    channels = int(found["dimensions"]) if "dimensions" in found else None
    if flags["univariate"]:
        _need(channels in (None, 1))
        channels = 1
    yes, *classes = found["classlabel"].split()
    _need(yes.lower() == "true" and classes and len(set(classes)) == len(classes))
    length = None
    if flags["equallength"] and "serieslength" in found:
        _need(re.fullmatch("[0-9]{1,9}", found["serieslength"]) and int(found["serieslength"]) > 0)
        length = int(found["serieslength"])
    cases, labels = [], []
    for i, line in enumerate(lines[at + 1 :], at + 1):
        text = line.strip(b" \t\r").decode()
        if not text:
            continue
        *parts, label = text.split(":")
        label = label.encode().strip().decode()
        _need(label in classes)
        _need(i < len(lines) - 1 or not any(c != label and c.startswith(label) for c in classes))
        rows = [_values(part, flags["missing"]) for part in parts]
        channels = len(rows) if channels is None else channels
        _need(len(rows) == channels and len({len(row) for row in rows}) == 1)
        cases.append(rows)
        labels.append(classes.index(label))
        length = len(rows[0]) if flags["equallength"] and length is None else length
        _need(not flags["equallength"] or len(rows[0]) == length)
    _need(cases)
    return cases, labels, classes


def _values(part: str, missing: bool, all_missing: bool = False) -> list[float | None]:
    row: list[float | None] = []
    for token in part.split(","):
        bare = token.strip(" \t")
        if missing and (bare == "?" or bare.lower() == "nan"):
            row.append(None)
            continue
        _need(NUMBER.fullmatch(token))
        with np.errstate(over="ignore"):
            value = float(np.float32(float(token)))
        _need(np.isfinite(value))
        row.append(value)
    _need(all_missing or any(value is not None for value in row))
    return row


def arff(content: bytes) -> Cases | None:
    """What a multivariate `.arff` file says (steps at the end that lack every value are none); None for a bad one."""
    try:
        return _arff(content)
    except (Bad, StopIteration, UnicodeDecodeError, ValueError, IndexError):
        return None


def _arff(content: bytes) -> Cases:
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    at = next(i for i, line in enumerate(lines) if line.strip().partition(b" ")[0].lower() == b"@data")
    steps, state, classes = 0, "before", []
    for raw in (line.strip() for line in lines[:at]):
        if not raw or raw[:1] == b"%":
            continue
        words = raw.decode().partition(" ")
        keyword, rest = words[0].lower(), words[2].strip()
        kind = rest.rpartition(" ")[2].lower()
        if keyword == "@attribute" and state == "inside":
            _need(kind in ("numeric", "real"))
            steps += 1
        elif keyword == "@attribute" and kind == "relational" and state == "before":
            state = "inside"
        elif keyword == "@attribute":
            _need(rest.endswith("}") and "{" in rest and not classes)
            classes = [_bare(name) for name in rest[rest.index("{") + 1 : -1].split(",")]
            _need(all(classes) and len(set(classes)) == len(classes))
        elif keyword == "@end":
            _need(state == "inside")
            state = "after"
        else:
            _need(keyword == "@relation")
    _need(state == "after" and steps and classes)
    cases, labels = [], []
    for i, raw in enumerate(lines[at + 1 :], at + 1):
        line = raw.strip(b" \t\r")
        if not line or line[:1] == b"%":
            continue
        quote = line[:1]
        _need(quote in (b"'", b'"'))
        body, label = _quoted(line, quote)
        name = _bare(label.decode("utf-8", "replace"))
        _need(name in classes)
        _need(i < len(lines) - 1 or not any(c != name and c.startswith(name) for c in classes))
        rows = [_values(part.decode(), True, all_missing=True) for part in body.split(b"\\n")]
        _need(all(len(row) == steps for row in rows))
        while rows[0] and all(row[-1] is None for row in rows):
            rows = [row[:-1] for row in rows]
        _need(rows[0] and all(any(value is not None for value in row) for row in rows))
        _need(not cases or len(rows) == len(cases[0]))
        cases.append(rows)
        labels.append(classes.index(name))
    _need(cases)
    return cases, labels, classes


def _quoted(line: bytes, quote: bytes) -> tuple[bytes, bytes]:
    """`'body',label` or `'body','label'` in two."""
    if line.endswith(quote):
        body, found, rest = line[1:].partition(quote)
    else:
        body, found, rest = line[1:].rpartition(quote)
    _need(found and rest.startswith(b","))
    return body, rest[1:]


def _bare(name: str) -> str:
    name = name.strip()
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name


def panel_agrees(panel: Any, said: Cases | None) -> bool:
    """Whether a `Panel` (None: refused) is what a slow reader says; the fill of missing values is only finite."""
    if panel is None or said is None:
        return panel is None and said is None
    cases, labels, classes = said
    if (panel.labels.tolist(), list(panel.classes)) != (labels, list(classes)):
        return False
    if panel.lengths.tolist() != [len(rows[0]) for rows in cases]:
        return False
    flat = [step for rows in cases for step in zip(*rows, strict=True)]
    known = np.array([[value is not None for value in step] for step in flat])
    exact = np.array([[0.0 if value is None else value for value in step] for step in flat])
    same = panel.values.shape == known.shape and np.array_equal(panel.values[known], exact[known])
    return bool(same and np.isfinite(panel.values).all())


def csv(content: bytes) -> tuple[list[list[float]], list[int], list[str]] | None:
    """What a series CSV says: rows of float32 values, milliseconds since 1970, names; None for a bad one."""
    try:
        text = content.decode("utf-8-sig")
        head, _, body = text.partition("\n")
        header = head.rstrip("\r\n").split(",")
        _need(header.count("date") == 1 and len(set(header)) == len(header) > 1)
        place = header.index("date")
        lines = re.split("\r\n|\n|\r", body)
        rows = [line.split(",") for line in (lines[:-1] if lines[-1] == "" else lines)]
        _need(rows and all(len(row) == len(header) for row in rows))
        form = next(form for form in DATES if _stamp(rows[0][place], form) is not None)
        stamps = [_stamp(row[place], form) for row in rows]
        values = []
        for row in rows:
            cells = [cell for i, cell in enumerate(row) if i != place]
            _need(all(NUMBER.fullmatch(cell) for cell in cells))
            with np.errstate(over="ignore"):
                values.append([float(np.float32(float(cell))) for cell in cells])
        _need(np.isfinite(values).all() and None not in stamps)
        return values, [stamp for stamp in stamps if stamp is not None], [n for n in header if n != "date"]
    except (Bad, StopIteration, UnicodeDecodeError, ValueError):
        return None


def _stamp(cell: str, form: str) -> int | None:
    try:
        return round(datetime.strptime(cell, form).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None


def series_agrees(series: Any, said: tuple[list, list, list] | None) -> bool:
    """Whether a `Series` is what the slow reader says; it may refuse what that takes (dates out of order, no rows)."""
    if series is None:
        return True
    if said is None:
        return False
    values, stamps, names = said
    return (
        series.columns.tolist() == names
        and series.dates.tolist() == stamps
        and np.array_equal(series.values, np.array(values, np.float32))
    )
