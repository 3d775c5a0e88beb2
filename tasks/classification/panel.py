"""A panel of labelled series, and its builder, which checks each case against the ones before.

A panel is what a `.ts` or `.arff` file of the UEA archive holds: cases of shape [length, channels], one class
label each. The cases lie one after another in one float32 array, so that unequal lengths cost no padding and
the cache is a plain npz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.classification.text import line_error
from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN


class Panel(NamedTuple):
    """`values` float32 [sum of lengths, channels], `lengths` int64 [cases], `labels` int64 [cases],
    `classes`.
    """

    values: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


@dataclass
class PanelBuilder:
    """Collects cases and checks each against the ones before; every complaint names the file and the line."""

    path: Path
    classes: tuple[str, ...] = ()
    channels: int | None = None
    length: int | None = None
    equal_length: bool = False
    cases: list[np.ndarray] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, line: int, case: np.ndarray, label: str) -> None:
        """Adds one case, float64 [length, channels], NaN where a value is missing. Raises DatasetError."""
        error = partial(line_error, self.path, line)
        if label not in self.classes:
            declared = ", ".join(self.classes)
            raise error(f"class label {label[:40]!r} is not declared (declared: {declared})")
        if self.channels is None:
            self.channels = case.shape[1]
        if case.shape[1] != self.channels:
            raise error(f"{case.shape[1]} channels where {self.channels} are declared")
        if self.equal_length:
            self.length = case.shape[0] if self.length is None else self.length
            if case.shape[0] != self.length:
                raise error(f"a series of {case.shape[0]} steps where every one has {self.length}")
        with np.errstate(over="ignore"):
            case = fill_missing(case, error).astype(np.float32)
        if not np.isfinite(case).all():
            raise error("a value is infinite, or too large for single precision")
        self.cases.append(case)
        self.labels.append(self.classes.index(label))

    def panel(self) -> Panel:
        """The finished panel. Raises DatasetError if no case was added."""
        if not self.cases:
            raise DatasetError(self.path, "no case follows @data: the file is truncated", FETCH_AGAIN)
        lengths = np.array([len(case) for case in self.cases], dtype=np.int64)
        return Panel(np.concatenate(self.cases), lengths, np.array(self.labels, dtype=np.int64), self.classes)


def fill_missing(case: np.ndarray, error: Callable[[str], DatasetError]) -> np.ndarray:
    """Replaces NaN by linear interpolation over time, each channel by itself; ends take the nearest known
    value.

    The base code does the same (`interpolate_missing`). A channel with no known value raises `error(reason)`.
    """
    if not np.isnan(case).any():
        return case
    filled, steps = case.copy(), np.arange(len(case))
    for channel in range(case.shape[1]):
        known = ~np.isnan(case[:, channel])
        if not known.any():
            raise error(f"channel {channel + 1} has no known value")
        filled[:, channel] = np.interp(steps, steps[known], case[known, channel])
    return filled
