"""Event files as other projects publish them: RMTPP text, JODIE csv, and the Uber (FOIL) and taxi (TLC) csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.errors import DatasetError
from tasks.events.sequences import EventSequences, from_lists, validate
from tasks.files import read_text

VAL_SHARE = 0.1  # of the published train rows, the last: 4777/530 of StackOverflow, 527/58 of MIMIC


def read_number_lines(path: Path) -> list[np.ndarray]:
    """One sequence a line, numbers between blanks. Raises DatasetError with the line."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            rows.append(np.array(line.split(), dtype=np.float64))
        except ValueError as error:
            raise DatasetError(path, f"line {number}: {error}", "one sequence a line, numbers only") from error
        if not len(rows[-1]):
            raise DatasetError(path, f"line {number} is empty", "remove sequences without events")
    return rows


def read_rmtpp(folder: Path, fold: int, *, n_marks: int, unit: str, start: float, end: float) -> EventSequences:
    """`time-K-train.txt`, `event-K-train.txt` and the -test pair; marks count from 1; `start` is subtracted."""
    times: list[np.ndarray] = []
    marks: list[np.ndarray] = []
    counts = []
    for part in ("train", "test"):
        t, m = (read_number_lines(folder / f"{kind}-{fold}-{part}.txt") for kind in ("time", "event"))
        if [len(row) for row in t] != [len(row) for row in m]:
            path = folder / f"event-{fold}-{part}.txt"
            raise DatasetError(path, "does not have one mark for each time of its time file", "use both of one release")
        times += [row - start for row in t]
        marks += [row - 1 for row in m]
        counts.append(len(t))
    split = np.repeat([0, 2], counts)
    split[counts[0] - int(VAL_SHARE * counts[0]) : counts[0]] = 1
    window = (0.0, end) if np.isfinite(end) else None
    return from_lists(times, marks, path=folder, n_marks=n_marks, unit=unit, window=window, split=split)


def read_jodie(path: Path, *, by_item: bool, n_marks: int, end: float) -> EventSequences:
    """`user_id,item_id,timestamp,...`: a sequence is a user, its marks the items, or the other way round (`by_item`).

    Unequal rows are the file's own: the header names one features column where rows hold many.
    """
    frame = _read_csv(path, columns=[0, 1, 2], header=None, skiprows=1, names=["user", "item", "time"])
    who, what = ("item", "user") if by_item else ("user", "item")
    frame = frame.sort_values([who, "time"], kind="stable")
    return _grouped(frame[who], frame["time"], frame[what], path, n_marks, "seconds", grid=1.0, window=(0.0, end))


def read_foil(path: Path, *, shortest: int = 100, longest: int = 500) -> EventSequences:
    """Uber pickups: sequences are dispatching base x zone, in hours since 2015-01-01 (protocol, 4.2).

    Ties are merged, keys with fewer than `shortest` events left out, longer ones cut at `longest`: these have no known
    window end.
    """
    wanted = ["Dispatching_base_num", "Pickup_date", "locationID"]
    frame = _read_csv(path, columns=wanted)
    hours = _hours(frame["Pickup_date"], path, "2015-01-01")
    key = frame["Dispatching_base_num"].astype(str) + "|" + frame["locationID"].astype(str)
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
        frame = _read_csv(path, columns=[names["medallion"], names["pickup_datetime"]])
        hours = _hours(frame[names["pickup_datetime"]], path, None)
        key, window = frame[names["medallion"]].astype(str), None
    else:
        when = names.get("tpep_pickup_datetime") or names.get("lpep_pickup_datetime")
        if when is None or "pulocationid" not in names:
            fix = "use a TLC file with medallion and pickup_datetime, or PULocationID and tpep_pickup_datetime"
            raise DatasetError(path, f"columns are {', '.join(header)}", fix)
        frame = _read_csv(path, columns=[names["pulocationid"], when])
        stamps = _stamps(frame[when], path)
        hours = ((stamps - stamps.dt.normalize()) / pd.Timedelta(hours=1)).to_numpy()
        key = frame[names["pulocationid"]].astype(str) + "|" + stamps.dt.date.astype(str)
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
    if not len(key):
        raise DatasetError(path, "holds no event", "use the published csv, whole")
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
    fix = "use the published csv, whole and unpacked"
    try:
        frame = pd.read_csv(path, usecols=columns, skipinitialspace=True, **options)
    except (OSError, ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DatasetError(path, f"cannot be read as csv ({str(error).splitlines()[0][:150]})", fix) from error
    if frame.empty:
        return frame
    if frame.isna().any(axis=None):
        row = int(np.flatnonzero(frame.isna().any(axis=1))[0])
        raise DatasetError(path, f"data row {row + 1} has an empty cell", fix)
    numeric = [name for name in ("user", "item", "time") if name in frame]
    for name in numeric:
        if frame[name].dtype.kind not in "iuf":
            bad: Any = pd.Series(pd.to_numeric(frame[name], errors="coerce")).isna()
            row = int(np.flatnonzero(bad)[0]) if bad.any() else 0
            raise DatasetError(path, f"data row {row + 1}: {name} is {frame[name].iloc[row]!r}, no number", fix)
    return frame


def _stamps(column: Any, path: Path) -> Any:
    stamps: Any = pd.to_datetime(column, errors="coerce")
    if stamps.isna().any():
        row = int(np.flatnonzero(stamps.isna())[0])
        raise DatasetError(path, f"data row {row + 1}: {column.iloc[row]!r} is no date", "use the published csv")
    return stamps


def _hours(column: Any, path: Path, origin: str | None) -> np.ndarray:
    stamps = _stamps(column, path)
    return (
        (stamps - (stamps.min().normalize() if origin is None else pd.Timestamp(origin))) / pd.Timedelta(hours=1)
    ).to_numpy()
