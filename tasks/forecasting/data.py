"""From a resolved dataset to batches of windows.

Windows are views of one standardised array and a batch is one gather from it: all windows of Weather at once would
be 0.6 GB, and are never made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tasks.batches import TaskData
from tasks.data import Resolved, load_cached
from tasks.forecasting.marks import time_marks
from tasks.forecasting.seasonal import seasonal
from tasks.forecasting.series import check_shape, check_statistics, join_columns, read_series
from tasks.forecasting.splits import fit_scaler, forward_fill, part_rows, positive, windows

PARSER_VERSION = 1  # raise it when `parse` returns something else for the same file
MISSING = -9999.0  # how Weather writes a failed sensor
GENERATORS = {"known/seasonal": seasonal}


class WindowBatch(NamedTuple):
    """Windows on the standardised scale: `history` [B, L, C], `future` [B, T, C], `marks` [B, L + T, F]."""

    history: Float[Tensor, "B L C"]
    future: Float[Tensor, "B T C"]
    marks: Float[Tensor, "B LT F"]


def parse(resolved: Resolved) -> dict[str, np.ndarray]:
    """The series in a dataset's files: `values` [N, C] float32, `dates` [N] int64 ms, `columns` [C].

    Raises:
        DatasetError: a file that is not what the manifest says.
    """
    shape = (resolved.entry.shape["rows"], resolved.entry.shape["channels"])
    parts = {role: read_series(path, resolved.dataset) for role, path in resolved.files.items()}
    path = next(iter(resolved.files.values()))
    series = join_columns(parts, path, resolved.dataset)
    check_shape(series, shape, path, resolved.dataset)
    check_statistics(series, resolved.entry.statistics, path, resolved.dataset)
    return series._asdict()


class ForecastingData(TaskData):
    """All windows of a series.

    Args:
        arrays: what `parse` gives. A set of ours has `signal` [N, C] as well: the series without its noise, the
            best forecast there is.
        history, horizon: L and T, in steps.
        rows: rows of train, val and test; None: 0.7, 0.1 and 0.2 of the series.
        freq: which time marks (see `time_marks`).
        clean: -9999 becomes the value before it (Weather's `clean_weather`).
        batch_size, eval_batch_size, seed: see `TaskData`.

    Raises:
        ConfigError: a part without a window, an impossible length or `freq`.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        history: int,
        horizon: int,
        rows: Sequence[int] | None = None,
        freq: str = "h",
        clean: bool = False,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed)
        values = forward_fill(arrays["values"], MISSING) if clean else arrays["values"]
        self.history, self.horizon = history, horizon
        self.rows = part_rows(len(values), rows)
        self.splits = windows(self.rows, history, horizon)
        self.sizes = {part: split.count for part, split in self.splits.items()}
        self.scaler = fit_scaler(values, self.rows.train)
        self.columns = [str(column) for column in arrays["columns"]]
        self.values = torch.from_numpy(self._standardise(values))
        self.marks = torch.from_numpy(time_marks(arrays["dates"], freq))
        signal = arrays.get("signal")
        self.signal = None if signal is None else torch.from_numpy(self._standardise(signal))

    @property
    def channels(self) -> int:
        """C."""
        return self.values.shape[1]

    def batch(self, split: str, indices: np.ndarray) -> WindowBatch:
        """The windows at `indices` of a part."""
        window, marks = (self._windows(series, split, indices) for series in (self.values, self.marks))
        return WindowBatch(window[:, : self.history], window[:, self.history :], marks)

    def best_mse(self, split: str) -> float | None:
        """MSE of the true signal on all windows of a part, as the metric counts it; None where nobody knows it.

        Its expectation is the closed form noise variance / training variance.
        """
        if self.signal is None:
            return None
        noise = (self.values.double() - self.signal.double()) ** 2
        every = np.arange(self.sizes[split])
        return float(self._windows(noise, split, every)[:, self.history :].mean())

    def _windows(self, series: Tensor, split: str, indices: np.ndarray) -> Float[Tensor, "B LT C"]:
        view = series.unfold(0, self.history + self.horizon, 1)
        return view[torch.from_numpy(indices + self.splits[split].first)].transpose(1, 2)

    def _standardise(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self.scaler.transform(values.astype(np.float64))).astype(np.float32)


def load(cfg: Mapping[str, Any], resolved: Resolved) -> ForecastingData:
    """The data of a job.

    Raises:
        ConfigError: an option that the series cannot serve.
        DatasetError: a bad file.
    """
    task = cfg["task"]
    options = task["data"]
    # A generated set is made anew: no file's hash would tell a cache that its generator has changed.
    generate = GENERATORS.get(resolved.dataset)
    return ForecastingData(
        generate() if generate else load_cached(resolved, parse, PARSER_VERSION),
        history=positive("task.history", task["history"]),
        horizon=positive("horizon", task["default_horizon"] if cfg["horizon"] is None else cfg["horizon"]),
        rows=options["rows"],
        freq=options["freq"],
        clean=options["clean_weather"],
        batch_size=options["batch_size"],
        eval_batch_size=options["eval_batch_size"],
        seed=cfg["seed"],
    )
