"""Slow readers of the event layouts, written from their descriptions, and a small whole file of each."""

from __future__ import annotations

import csv
import io
import pickle
import re
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.events import layouts

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
HOUR = 3600.0
Rows = list[tuple[list[float], list[int]]]  # times and marks of each sequence


def _number(cell: str) -> float:
    if not NUMBER.fullmatch(cell.strip(" \t")):
        raise ValueError(cell)
    return float(cell)


def _rows(content: bytes) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=None)) if row]


def _stamp(cell: str) -> datetime:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", cell.strip()):
        raise ValueError(cell)
    return datetime.strptime(cell.strip(), "%Y-%m-%d %H:%M:%S")


def _by_key(pairs: list) -> Rows:
    """[(times, marks)] of a sorted list of ((key, time), mark)."""
    grouped = (list(rows) for _, rows in groupby(pairs, key=lambda pair: pair[0][0]))
    return [([time for (_, time), _ in rows], [mark for _, mark in rows]) for rows in grouped]


def _jodie(content: bytes) -> Rows:
    _, *rows = [row for row in re.split("\r\n|\n|\r", content.decode("utf-8-sig")) if row.strip(" ")]
    cells = [[_number(cell) for cell in row.split(",")[:3]] for row in rows]
    return _by_key(sorted((((user, time), item) for user, item, time in cells), key=lambda pair: pair[0]))


def _foil(content: bytes) -> Rows:
    header, *rows = _rows(content)
    base, when, zone = (header.index(name) for name in ("Dispatching_base_num", "Pickup_date", "locationID"))
    origin = datetime(2015, 1, 1)
    found = {(f"{row[base].strip()}|{row[zone].strip()}", _stamp(row[when]) - origin) for row in rows}
    pairs = sorted(((key, span.total_seconds() / HOUR), 0) for key, span in found)
    return [(t[:5], m[:5]) for t, m in _by_key(pairs) if len(t) >= 2]


def _medallions(content: bytes) -> Rows:
    header, *rows = _rows(content)
    names = [name.strip().lower() for name in header]
    who, when = names.index("medallion"), names.index("pickup_datetime")
    found = {(row[who].strip(), _stamp(row[when])) for row in rows}
    start = min(stamp for _, stamp in found).replace(hour=0, minute=0, second=0)
    return _by_key(sorted(((key, (stamp - start).total_seconds() / HOUR), 0) for key, stamp in found))


def _zones(content: bytes) -> Rows:
    header, *rows = _rows(content)
    names = [name.strip().lower() for name in header]
    zone = names.index("pulocationid")
    when = next(i for i, name in enumerate(names) if name in ("tpep_pickup_datetime", "lpep_pickup_datetime"))
    found = {(row[zone].strip(), _stamp(row[when])) for row in rows}
    keyed = ((f"{key}|{s.date()}", (s - s.replace(hour=0, minute=0, second=0)).total_seconds()) for key, s in found)
    return _by_key(sorted(((key, seconds / HOUR), 0) for key, seconds in keyed))


def _csv(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


class Layout(NamedTuple):
    """One published csv layout: a whole file, the product's reader, the slow one, and the bytes that edits prefer."""

    whole: bytes
    read: Callable[[Path], Any]
    slow: Callable[[bytes], Rows]
    alphabet: bytes


DATE_BYTES = b"0123456789AB-: ,\t\r\n\"'TZ\0\xff/."
LAYOUTS = {
    "jodie": Layout(
        _csv(
            "user_id,item_id,timestamp,state_label,comma_separated_list_of_features",
            *(
                "0,5,0.0,0,-0.3,-0.4",
                "1,2,3.5,0,-0.3,0.4",
                "0,6,9.25,1,0.1,-0.4",
                "1,5,9.0,0,0.1,0.2",
                "12,3,1e1,0,1,2",
            ),
        ),
        lambda path: layouts.read_jodie(path, by_item=False, n_marks=7, end=2000.0),
        _jodie,
        b"0123456789.,-+eE \t\r\n\"'_naifNA\0\xff;#",
    ),
    "foil": Layout(
        _csv(
            "Dispatching_base_num,Pickup_date,Affiliated_base_num,locationID",
            *(f"B2,2015-01-{day:02d} 0{day}:30:0{day},B1,7" for day in (3, 1, 2, 1, 9, 8, 7)),
            *(f"B1,2015-02-0{day} 00:00:00,B1,12" for day in (1, 2)),
        ),
        lambda path: layouts.read_foil(path, shortest=2, longest=5),
        _foil,
        DATE_BYTES,
    ),
    "medallions": Layout(
        _csv(
            "medallion, pickup_datetime, fare",
            *(
                "A,2013-01-02 01:00:00,3",
                "A,2013-01-01 12:00:00,2",
                "B,2013-01-01 00:30:09,1",
                "A,2013-01-02 01:00:00,4",
            ),
        ),
        layouts.read_tlc,
        _medallions,
        DATE_BYTES,
    ),
    "zones": Layout(
        _csv(
            "tpep_pickup_datetime,PULocationID,fare",
            *(
                "2016-01-01 06:00:00,3,1",
                "2016-01-02 07:10:00,3,2",
                "2016-01-01 08:00:59,3,3",
                "2016-01-01 05:00:00,13,4",
            ),
        ),
        layouts.read_tlc,
        _zones,
        DATE_BYTES,
    ),
}

# The RMTPP text: one sequence a line, times and marks in files of their own.
RMTPP = {
    "time-1-train.txt": b"10.5 20 35.25\n11 1e2\n12.5 13 14\n",
    "event-1-train.txt": b"1 22 3\n4 5\n7 7 7\n",
    "time-1-test.txt": b"10.5 20 35.25\n11 1e2\n12.5 13 14\n",
    "event-1-test.txt": b"1 22 3\n4 5\n7 7 7\n",
}
RMTPP_BYTES = b"0123456789.-+eE \t\r\n_naif\0\xff\x1c\xc2\x85,"


def read_rmtpp(folder: Path) -> Any:
    """The product's reading of the four files of `RMTPP`."""
    return layouts.read_rmtpp(folder, 1, n_marks=22, unit="seconds", start=10.0, end=1000.0)


def slow_rmtpp(files: dict[str, bytes]) -> Rows:
    """What the four files say, times counted from 10, marks from 0. Raises ValueError where they say nothing."""
    both = []
    for part in ("train", "test"):
        times, marks = (_number_lines(files[f"{kind}-1-{part}.txt"]) for kind in ("time", "event"))
        both += [([t - 10 for t in ts], [m - 1 for m in ms]) for ts, ms in zip(times, marks, strict=True)]
    return both


def _number_lines(content: bytes) -> list[list[float]]:
    text = content.decode("utf-8-sig")
    lines = (text[:-1] if text.endswith("\n") else text).split("\n")
    return [[_number(cell) for cell in line.removesuffix("\r").replace("\t", " ").split(" ") if cell] for line in lines]


class _NoNames(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(name)


def hawkes_pickle(part: str, rows: list, protocol: int) -> bytes:
    """One part of the Neural Hawkes layout: rows of (time, mark) as lists of event dicts."""
    events = [[{"time_since_start": t, "type_event": m} for t, m in row] for row in rows]
    return pickle.dumps({"dim_process": 4, part: events}, protocol=protocol)


def slow_hawkes(content: bytes) -> Rows:
    """What a pickle of plain containers and numbers holds under `train`."""
    events = _NoNames(io.BytesIO(content), encoding="latin1").load()["train"]
    return [([e["time_since_start"] for e in row], [e["type_event"] for e in row]) for row in events]


def agrees(found: Any, slow: Callable[[], Rows]) -> bool:
    """Whether `EventSequences` (None: refused) hold what the slow reader says; refusing more than it is allowed."""
    if found is None:
        return True
    try:
        said = slow()
    except (ValueError, IndexError, KeyError, StopIteration, TypeError):
        return False
    ends = list(zip(found.offsets[:-1], found.offsets[1:], strict=True))
    if len(ends) != len(said):
        return False
    for (a, b), (times, marks) in zip(ends, said, strict=True):
        if found.marks[a:b].tolist() != list(marks) or b - a != len(times):
            return False
        if not np.allclose(found.times[a:b], times, rtol=1e-14, atol=0):
            return False
    return True
