"""Row borders, window counts and the scaler: numpy only (protocol, table 1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.preprocessing import StandardScaler

from tasks.errors import ConfigError


class Split(NamedTuple):
    """The windows of a part: window k holds the rows [first + k, first + k + history + horizon)."""

    first: int
    count: int


class Rows(NamedTuple):
    """Rows of each part, in order of time; what is left at the end stays unused."""

    train: int
    val: int
    test: int


def positive(option: str, value: Any) -> int:
    """`value` as it is.

    Raises:
        ConfigError: it is not a whole number of at least 1.
    """
    if type(value) is not int or value < 1:
        raise ConfigError(option, value, "give a positive whole number")
    return value


def part_rows(total: int, rows: Sequence[int] | None) -> Rows:
    """Rows of the parts: stated (ETT: 12, 4 and 4 months of 30 days), or int(0.7 N), the rest, int(0.2 N).

    Raises:
        ConfigError: the stated rows are not three positive counts that fit into the series.
    """
    if rows is None:
        train, test = int(total * 0.7), int(total * 0.2)
        return Rows(train, total - train - test, test)
    if len(rows) != 3 or min(rows) < 1:
        raise ConfigError("task.data.rows", list(rows), "give three positive counts: train, val, test")
    if sum(rows) > total:
        raise ConfigError("task.data.rows", list(rows), f"the series has only {total} rows")
    return Rows(*rows)


def windows(rows: Rows, history: int, horizon: int) -> dict[str, Split]:
    """The windows of each part. History may reach back into the part before; what is forecast may not.

    Raises:
        ConfigError: a history or horizon below 1, or so long that a part has no window.
    """
    positive("task.history", history)
    positive("horizon", horizon)
    splits = {
        "train": Split(0, rows.train - history - horizon + 1),
        "val": Split(rows.train - history, rows.val - horizon + 1),
        "test": Split(rows.train + rows.val - history, rows.test - horizon + 1),
    }
    for part, split in splits.items():
        if split.count < 1 or split.first < 0:
            steps = f"{history} + {horizon}" if part == "train" else f"{horizon}"
            raise ConfigError(
                "horizon",
                horizon,
                f"no window fits the {part} part: it has {getattr(rows, part)} rows, a window needs {steps} "
                f"(task.history={history}); choose a shorter horizon or history",
            )
    return splits


def fit_scaler(values: np.ndarray, train_rows: int) -> StandardScaler:
    """Mean and population standard deviation of the training rows alone, in float64.

    A channel that is constant there keeps its unit (scikit-learn divides it by 1).
    """
    return StandardScaler().fit(values[:train_rows].astype(np.float64))


def forward_fill(values: np.ndarray, missing: float) -> np.ndarray:
    """Each cell that equals `missing` takes the value before it in its column (the first valid one at the start).

    Weather marks a failed sensor by -9999 (protocol 2.1); all of these lie in the training part.
    """
    filled = values.copy()
    for column in filled.T:
        good = np.flatnonzero(column != missing)
        if 0 < good.size < column.size:
            before = np.searchsorted(good, np.arange(column.size), side="right") - 1
            column[:] = column[good[np.maximum(before, 0)]]
    return filled
