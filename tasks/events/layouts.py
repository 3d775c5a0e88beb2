"""Event files as other projects publish them: RMTPP text, JODIE csv, and the Uber (FOIL) and taxi (TLC) csv."""

from __future__ import annotations

import csv
import mmap
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.errors import DatasetError
from tasks.events.sequences import EventSequences, from_lists, validate
from tasks.files import foreign_kind, read_text

NOT_NUMBERS = re.compile(r"[^0-9eE+. \t-]")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
STAMP = "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9]"
VAL_SHARE = 0.1  # of the published train rows, the last: 4777/530 of StackOverflow, 527/58 of MIMIC


def read_number_lines(path: Path) -> list[np.ndarray]:
    """One sequence a line, numbers between blanks. Raises DatasetError with the line."""
    rows = []
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        fix = "one sequence a line, decimal numbers between blanks"
        odd = NOT_NUMBERS.search(line.removesuffix("\r"))  # also what Python takes for numbers: 1_0, nan, other digits
        if odd:
            raise DatasetError(path, f"line {number} has {odd[0]!r}", fix)
        try:
            rows.append(np.array(line.split(), dtype=np.float64))
        except ValueError as error:
            raise DatasetError(path, f"line {number}: {error}", fix) from error
        if not len(rows[-1]):
            raise DatasetError(path, f"line {number} is empty", "remove sequences without events")
    return rows


def read_rmtpp(folder: Path, fold: int, *, n_marks: int, unit: str, start: float, end: float) -> EventSequences:
    """`time-K-train.txt`, `event-K-train.txt` and the -test pair; marks count from 1; `start` is subtracted."""
    times: list[np.ndarray] = []
    marks: list[np.ndarray] = []
    counts = []
    window = (0.0, end) if np.isfinite(end) else None
    for part in ("train", "test"):
        t, m = (read_number_lines(folder / f"{kind}-{fold}-{part}.txt") for kind in ("time", "event"))
        if [len(row) for row in t] != [len(row) for row in m]:
            path = folder / f"event-{fold}-{part}.txt"
            raise DatasetError(path, "does not have one mark for each time of its time file", "use both of one release")
        t, m = [row - start for row in t], [row - 1 for row in m]
        # checked by part, so that a fault is named by its own file and row (mark 0 is the published mark 1)
        from_lists(t, m, path=folder / f"time-{fold}-{part}.txt", n_marks=n_marks, unit=unit, window=window)
        times += t
        marks += m
        counts.append(len(t))
    split = np.repeat([0, 2], counts)
    split[counts[0] - int(VAL_SHARE * counts[0]) : counts[0]] = 1
    return from_lists(times, marks, path=folder, n_marks=n_marks, unit=unit, window=window, split=split)


def read_jodie(path: Path, *, by_item: bool, n_marks: int, end: float) -> EventSequences:
    """`user_id,item_id,timestamp,...`: a sequence is a user, its marks the items, or the other way round (`by_item`).

    Unequal rows are the file's own: the header names one features column where rows hold many.
    """
    header = [str(name).strip().lower() for name in _read_csv(path, nrows=0).columns][:3]
    if header != ["user_id", "item_id", "timestamp"]:
        fix = "the first three columns must be user_id, item_id, timestamp"
        raise DatasetError(path, f"columns are {', '.join(header)}, ...", fix)
    options: dict[str, Any] = {"header": None, "skiprows": 1, "quoting": csv.QUOTE_NONE}
    frame = _read_csv(path, columns=[0, 1, 2], names=["user", "item", "time"], **options)
    who, what = ("item", "user") if by_item else ("user", "item")
    frame = frame.sort_values([who, "time"], kind="stable")
    return _grouped(frame[who], frame["time"], frame[what], path, n_marks, "seconds", grid=1.0, window=(0.0, end))


def read_foil(path: Path, *, shortest: int = 100, longest: int = 500) -> EventSequences:
    """Uber pickups: sequences are dispatching base x zone, in hours since 2015-01-01 (protocol, 4.2).

    Ties are merged, keys with fewer than `shortest` events left out, longer ones cut at `longest`: these have no known
    window end.
    """
    wanted = ["Dispatching_base_num", "Pickup_date", "locationID"]
    frame = _read_csv(path, columns=wanted, dtype=str)
    hours = _hours(frame["Pickup_date"], path, "2015-01-01")
    key = frame["Dispatching_base_num"].str.strip() + "|" + frame["locationID"].str.strip()
    table: Any = pd.DataFrame({"key": key, "hours": hours}).drop_duplicates().sort_values(["key", "hours"])
    size = table.groupby("key")["hours"].transform("size")
    table = table[size >= shortest]
    if table.empty:
        raise DatasetError(path, f"no base and zone has {shortest} pickups", "use the file of January to June 2015")
    rank = table.groupby("key").cumcount()
    cut = table["key"][rank == longest].unique()
    kept = table[rank < longest]
    sequences = _grouped(kept["key"], kept["hours"], None, path, 1, "hours", grid=1 / 60, window=(0.0, 4344.0))
    sequences.window_end[np.isin(kept["key"].unique(), cut)] = np.nan
    return sequences


def read_tlc(path: Path) -> EventSequences:
    """Taxi pickups: sequences are medallions (2013 files) or zone x day (later ones), in hours.

    A zone's day is a window of 24 h from midnight; a medallion's window is not known.
    """
    header = list(_read_csv(path, nrows=0).columns)
    names = {name.strip().lower(): name for name in header}
    if "medallion" in names and "pickup_datetime" in names:
        frame = _read_csv(path, columns=[names["medallion"], names["pickup_datetime"]], dtype=str)
        hours = _hours(frame[names["pickup_datetime"]], path, None)
        key, window = frame[names["medallion"]].str.strip(), None
    else:
        when = names.get("tpep_pickup_datetime") or names.get("lpep_pickup_datetime")
        if when is None or "pulocationid" not in names:
            fix = "use a TLC file with medallion and pickup_datetime, or PULocationID and tpep_pickup_datetime"
            raise DatasetError(path, f"columns are {', '.join(header)}", fix)
        frame = _read_csv(path, columns=[names["pulocationid"], when], dtype=str)
        stamps = _stamps(frame[when], path)
        hours = ((stamps - stamps.dt.normalize()) / pd.Timedelta(hours=1)).to_numpy()
        key = frame[names["pulocationid"]].str.strip() + "|" + stamps.dt.date.astype(str)
        window = (0.0, 24.0)
    table: Any = pd.DataFrame({"key": key, "hours": hours}).drop_duplicates().sort_values(["key", "hours"])
    return _grouped(table["key"], table["hours"], None, path, 1, "hours", grid=1 / 3600, window=window)


def _grouped(
    key: Any,
    time: Any,
    mark: Any,
    path: Path,
    n_marks: int,
    unit: str,
    *,
    grid: float,
    window: tuple[float, float] | None,
) -> EventSequences:
    """Sequences of rows that are sorted by key and time."""
    codes = pd.factorize(key)[0]
    offsets = np.append(np.flatnonzero(np.diff(codes, prepend=-1)), len(codes)).astype(np.int64)
    n = len(offsets) - 1
    start, end = window or (np.nan, np.nan)
    sequences = EventSequences(
        times=time.to_numpy(np.float64),
        marks=np.zeros(len(codes), np.int64) if mark is None else mark.to_numpy(),
        offsets=offsets,
        window_start=np.full(n, start),
        window_end=np.full(n, end),
        split=np.full(n, -1, np.int8),
        n_marks=n_marks,
        unit=unit,
        grid=grid,
    )
    return validate(sequences, path)


def _read_csv(path: Path, columns: Any = None, **options: Any) -> Any:
    """The wanted columns, every cell filled. What a row has beyond them is not looked at (published rows differ)."""
    fix = "use the published csv, whole and unpacked"
    # without index_col, pandas takes the first cell for a label where every row has one more than the header
    options = {
        "skipinitialspace": True,
        "compression": None,
        "float_precision": "round_trip",
        "index_col": False,
    } | options
    try:
        kind = foreign_kind(path)
        if kind:
            raise DatasetError(path, f"holds {kind}", fix)
        frame = pd.read_csv(path, usecols=columns, **options)
    except (OSError, ValueError, OverflowError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DatasetError(path, f"cannot be read as csv ({str(error).splitlines()[0][:150]})", fix) from error
    if "nrows" in options:
        return frame
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # pandas takes a zero byte for the end of a cell and drops the rest, and other control bytes for blanks
        if odd := CONTROL.search(content):
            raise DatasetError(path, f"byte {odd.start()} is {odd[0][0]}, a control character: this is no text", fix)
    if frame.empty:
        raise DatasetError(path, "holds no event", fix)
    if frame.isna().any(axis=None):
        row = int(np.flatnonzero(frame.isna().any(axis=1))[0])
        raise DatasetError(path, f"data row {row + 1} has an empty cell", fix)
    numeric = [name for name in ("user", "item", "time") if name in frame]
    for name in numeric:
        if frame[name].dtype.kind not in "iuf":
            bad: Any = pd.Series(pd.to_numeric(frame[name], errors="coerce")).isna()
            row = int(np.flatnonzero(bad)[0]) if bad.any() else 0
            raise DatasetError(path, f"data row {row + 1}: {name} is {frame[name].iloc[row]!r}, no number", fix)
        whole = np.isfinite(frame[name]) & (name == "time" or frame[name] % 1 == 0)
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise DatasetError(path, f"data row {row + 1}: {name} is {frame[name].iloc[row]}", fix)
    return frame


def _stamps(column: Any, path: Path) -> Any:
    """Timestamps of the published form only: a guessed format may take the month for the day."""
    column = column.str.strip()
    stamps: Any = pd.to_datetime(column, format="%Y-%m-%d %H:%M:%S", errors="coerce")
    bad = stamps.isna() | ~column.str.fullmatch(STAMP)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        fix = "use the published csv, its times as 2015-01-31 23:59:59"
        raise DatasetError(path, f"data row {row + 1}: {column.iloc[row]!r} is no date", fix)
    return stamps


def _hours(column: Any, path: Path, origin: str | None) -> np.ndarray:
    stamps = _stamps(column, path)
    return (
        (stamps - (stamps.min().normalize() if origin is None else pd.Timestamp(origin))) / pd.Timedelta(hours=1)
    ).to_numpy()
