"""The one format every event set is brought into: flat arrays with offsets, checked once.

Sequence s holds events offsets[s] .. offsets[s+1]-1. Times are float64 on the set's own clock; a window is known
(start and end of observation) or absent (NaN). Everything downstream may rely on what `validate` checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tasks.errors import DatasetError

SPLITS = ("train", "val", "test")
NUMBERS = "iuf"  # the kinds of dtype that hold numbers
SECONDS = {"seconds": 1.0, "10^6 s": 1e6, "hours": 3600.0, "days": 86400.0, "weeks": 604800.0, "years": 31449600.0}
"""Seconds in a unit; a year is 52 weeks, as in the MIMIC set whose gaps are whole 52nds of a year."""


@dataclass(frozen=True)
class EventSequences:
    """S sequences with M events in all.

    times [M] float64, marks [M] int64, offsets [S+1] int64, window_start [S] and window_end [S] float64 (NaN =
    unknown), split [S] int8 (index into SPLITS, -1 = no published split). `unit` is the unit of times, `grid` the
    step of the clock in that unit (0 = continuous), `n_marks` the declared vocabulary (1 = unmarked).
    """

    times: np.ndarray
    marks: np.ndarray
    offsets: np.ndarray
    window_start: np.ndarray
    window_end: np.ndarray
    split: np.ndarray
    n_marks: int
    unit: str
    grid: float = 0.0

    @property
    def n_sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def row(self) -> np.ndarray:
        """The sequence each event belongs to, [M] int64."""
        return np.repeat(np.arange(self.n_sequences), self.lengths)

    def gaps(self) -> np.ndarray:
        """Time since the previous event of the same sequence, [M]; NaN at first events, which have none."""
        gaps = np.full(len(self.times), np.nan)
        gaps[1:] = np.diff(self.times)
        gaps[self.offsets[:-1][self.lengths > 0]] = np.nan
        return gaps

    def select(self, sequences: np.ndarray) -> EventSequences:
        """The chosen sequences, in the order given."""
        lengths = self.lengths[sequences]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        take = np.repeat(self.offsets[:-1][sequences] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(
            self,
            times=self.times[take],
            marks=self.marks[take],
            offsets=offsets,
            window_start=self.window_start[sequences],
            window_end=self.window_end[sequences],
            split=self.split[sequences],
        )

    def in_unit(self, unit: str) -> EventSequences:
        """The same events on a clock of another unit. NLL per event shifts by ln of the ratio, RMSE scales by it."""
        if unit == self.unit:
            return self
        factor = SECONDS[self.unit] / SECONDS[unit]
        return replace(
            self,
            times=self.times * factor,
            window_start=self.window_start * factor,
            window_end=self.window_end * factor,
            unit=unit,
            grid=self.grid * factor,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for the npz cache."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return arrays | {
            "n_marks": np.array(self.n_marks),
            "unit": np.array(self.unit),
            "grid": np.array(self.grid),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> EventSequences:
        return cls(
            **{name: arrays[name] for name in _ARRAYS},
            n_marks=int(arrays["n_marks"]),
            unit=str(arrays["unit"]),
            grid=float(arrays["grid"]),
        )


_ARRAYS = ("times", "marks", "offsets", "window_start", "window_end", "split")


def from_lists(
    times: Sequence[np.ndarray],
    marks: Sequence[np.ndarray] | None,
    *,
    path: Path | str,
    n_marks: int,
    unit: str,
    grid: float = 0.0,
    window: tuple[float, float] | None = None,
    split: np.ndarray | None = None,
) -> EventSequences:
    """Build and validate from one array a sequence. `path` names the source in error messages."""
    for what, rows in (("times", times), ("marks", marks or [])):
        for s, row in enumerate(map(np.asarray, rows)):
            if row.ndim != 1 or row.dtype.kind not in NUMBERS:
                raise DatasetError(path, f"sequence {s}: {what} are no list of numbers", "supply plain numbers")
    lengths = np.array([len(t) for t in times], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    for s, t in enumerate(times):
        refuse_coarse_floats(np.asarray(t), path, f"sequence {s}")
    for s, (t, m) in enumerate(zip(times, marks or [], strict=False)):
        if len(t) != len(m):
            raise DatasetError(path, f"sequence {s} has {len(t)} times but {len(m)} marks", "supply both in step")
    if marks is not None and len(marks) != len(times):
        raise DatasetError(path, f"{len(times)} sequences of times, {len(marks)} of marks", "supply both in step")
    start, end = window if window is not None else (np.nan, np.nan)
    joined = np.concatenate([np.asarray(t, np.float64) for t in times]) if len(times) else np.zeros(0)
    if marks is None:
        joined_marks = np.zeros(len(joined), np.int64)
    else:
        joined_marks = np.concatenate([np.asarray(m) for m in marks]) if len(marks) else np.zeros(0, np.int64)
    sequences = EventSequences(
        times=joined,
        marks=joined_marks,
        offsets=offsets,
        window_start=np.full(len(times), start),
        window_end=np.full(len(times), end),
        split=np.full(len(times), -1, np.int8) if split is None else split.astype(np.int8),
        n_marks=n_marks,
        unit=unit,
        grid=grid,
    )
    return validate(sequences, path)


def refuse_coarse_floats(times: np.ndarray, path: Path | str, where: str) -> None:
    """float32 cannot hold Unix seconds: neighbouring numbers there are 128 s apart."""
    finite = times[np.isfinite(times)]  # `validate` names the others
    if times.dtype.kind == "f" and times.dtype.itemsize < 8 and len(finite):
        largest = float(np.abs(finite).max())
        if np.spacing(times.dtype.type(largest)) > 1e-3 and largest > 1e6:
            step = float(np.spacing(times.dtype.type(largest)))
            raise DatasetError(
                path,
                f"{where}: {times.dtype} times near {largest:.6g} are only exact to {step:g}",
                "store times as float64, or subtract the sequence's start before rounding",
            )


def validate(sequences: EventSequences, path: Path | str) -> EventSequences:
    """Check what every later step relies on; repeated times are allowed here and settled by `resolve_ties`.

    Raises DatasetError naming sequence and event: an empty sequence, a non-finite or decreasing time, a mark that is
    no integer or outside 0 .. n_marks-1, an event outside its window, an infinite window.
    """
    lengths, times, row = sequences.lengths, sequences.times, sequences.row
    marks = np.asarray(sequences.marks)
    if times.dtype != np.float64 or marks.dtype.kind not in NUMBERS:
        reason = f"times are {times.dtype} and marks {marks.dtype}, not float64 and integers"
        raise DatasetError(path, reason, "store numbers, times in double precision")

    def event(i: int) -> str:
        s = int(row[i])
        return f"sequence {s}, event {i - int(sequences.offsets[s])}"

    if sequences.n_sequences == 0:
        raise DatasetError(path, "no sequences", "supply a file with events")
    if (lengths == 0).any():
        s = int(np.flatnonzero(lengths == 0)[0])
        raise DatasetError(path, f"sequence {s} is empty", "remove sequences without events")
    if not np.isfinite(times).all():
        i = int(np.flatnonzero(~np.isfinite(times))[0])
        raise DatasetError(path, f"{event(i)}: time {times[i]} is not finite", "remove or repair the event")
    gaps = sequences.gaps()
    if (gaps < 0).any():
        i = int(np.flatnonzero(gaps < 0)[0])
        raise DatasetError(path, f"{event(i)}: time {times[i]:.10g} comes before {times[i - 1]:.10g}", "sort by time")
    if marks.dtype.kind == "f" and not (np.isfinite(marks) & (marks == np.round(marks))).all():
        i = int(np.flatnonzero(~(np.isfinite(marks) & (marks == np.round(marks))))[0])
        raise DatasetError(path, f"{event(i)}: mark {marks[i]} is no integer", "number the marks 0, 1, 2, ...")
    outside = (marks < 0) | (marks >= sequences.n_marks)
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise DatasetError(
            path,
            f"{event(i)}: mark {marks[i]:.10g} outside the declared 0 to {sequences.n_marks - 1}",
            "declare the whole vocabulary (marks are counted from 0), test marks included",
        )
    for name, bound in (("start", sequences.window_start), ("end", sequences.window_end)):
        if np.isinf(bound).any():
            s = int(np.flatnonzero(np.isinf(bound))[0])
            raise DatasetError(path, f"sequence {s}: its window's {name} is infinite", "leave unknown windows out")
    if (sequences.window_end[row] < times).any() or (sequences.window_start[row] > times).any():
        i = int(np.flatnonzero((sequences.window_end[row] < times) | (sequences.window_start[row] > times))[0])
        window = f"[{sequences.window_start[row[i]]:.10g}, {sequences.window_end[row[i]]:.10g}]"
        raise DatasetError(path, f"{event(i)}: time {times[i]:.10g} outside its window {window}", "correct the window")
    return replace(sequences, marks=marks.astype(np.int64))


def resolve_ties(sequences: EventSequences, rule: str, seed: int, path: Path | str) -> EventSequences:
    """Make times strictly increasing (protocol section 3.1: each exact tie is worth +27 nats of nothing).

    `refuse` raises on the first tie; `merge` keeps the first of tied events; `jitter` adds a seeded uniform draw of one
    grid step to every time, which turns a clock of whole steps into the continuous law it rounds.
    """
    gaps = sequences.gaps()
    tied = gaps == 0
    if rule == "jitter":
        if sequences.grid <= 0:
            raise DatasetError(path, "jitter needs the step of the clock", "declare the set's grid step")
        times = sequences.times + np.random.default_rng(seed).uniform(0, sequences.grid, len(sequences.times))
        order = np.lexsort((times, sequences.row))
        end = sequences.window_end + sequences.grid
        return replace(sequences, times=times[order], marks=sequences.marks[order], window_end=end)
    if rule == "merge":
        keep = ~tied
        lengths = np.bincount(sequences.row[keep], minlength=sequences.n_sequences)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return replace(sequences, times=sequences.times[keep], marks=sequences.marks[keep], offsets=offsets)
    if tied.any():
        i = int(np.flatnonzero(tied)[0])
        s = int(sequences.row[i])
        raise DatasetError(
            path,
            f"sequence {s}, event {i - int(sequences.offsets[s])}: the time {sequences.times[i]:.10g} repeats",
            "set task.data.ties=merge, or task.data.ties=jitter with the grid step",
        )
    return sequences
