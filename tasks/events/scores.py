"""Scores of a split, summed event by event in float64: ours, and the base code's own formulas for comparison.

Protocol: section 0.3 for ours, 1.2 for `base_nll` and `base_rmse`. Only predicted events count (all but the first of a
sequence); sums are divided once, by one printed count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kstest
from torch import Tensor

from tasks.events.batch import EventBatch
from tasks.task import Measure

PIT_BINS = 20


class Scored(NamedTuple):
    """A model's answers about P predicted events of a batch: float64 or float32 [P], and [R] for the tails.

    log_prob and log_survival of the gap, log P(mark) and whether the most probable mark is the right one (None:
    unmarked), predicted mean and median gap, and log S of what is left of each known window.
    """

    log_prob: Tensor
    log_survival: Tensor
    mean: Tensor
    median: Tensor
    log_mark: Tensor | None
    hit: Tensor | None
    tail_log_survival: Tensor


class Scores:
    """Running sums over a split.

    Args:
        unit: of gaps; printed with every number that depends on it.
        truth: log-likelihood under the true law per sequence of the split [S], or None.
        windowed: whether any sequence has a known window, so that survival up to its end belongs to the likelihood.
    """

    def __init__(self, unit: str, truth: np.ndarray | None = None, windowed: bool = False) -> None:
        self.unit, self.truth, self.windowed = unit, truth, windowed
        self.parts: dict[str, list[np.ndarray]] = {}

    def add(self, batch: EventBatch, scored: Scored) -> None:
        """Take in one batch; order and size of batches change nothing."""
        row, n_rows = _array(batch.row).astype(np.int64), len(batch.index)

        def per_row(values: np.ndarray, rows: np.ndarray = row) -> np.ndarray:
            return np.bincount(rows, weights=values, minlength=n_rows)

        gap, log_prob, log_survival = _array(batch.gap), _array(scored.log_prob), _array(scored.log_survival)
        log_mark = np.zeros(len(gap)) if scored.log_mark is None else _array(scored.log_mark)
        error = _array(scored.mean) - gap
        last = _array(batch.last).astype(bool)
        new = {
            "index": _array(batch.index).astype(np.int64),
            "predicted": per_row(np.ones(len(gap))),
            "events": _array(batch.valid.sum(1)),
            "time": per_row(log_prob),
            "mark": per_row(log_mark),
            "squared": per_row(error**2),
            "signed": per_row(error),
            "absolute": per_row(np.abs(_array(scored.median) - gap)),
            "tail": per_row(_array(scored.tail_log_survival), _array(batch.tail_row).astype(np.int64)),
            "base_time": per_row(np.where(last, log_survival, log_prob)),
            "pit": -np.expm1(log_survival),
        }
        if scored.hit is not None:
            new["hits"] = per_row(_array(scored.hit))
        for name, values in new.items():
            self.parts.setdefault(name, []).append(values)

    def joined(self) -> dict[str, np.ndarray]:
        """All parts, per sequence in order of its index (`pit` per event, in scoring order)."""
        if not self.parts:
            raise ValueError("nothing was scored: the split is empty")
        joined = {name: np.concatenate(values) for name, values in self.parts.items()}
        order = np.argsort(joined["index"], kind="stable")
        return {name: values if name == "pit" else values[order] for name, values in joined.items()}

    def measures(self) -> dict[str, Measure]:
        """Every score of the split with its count and unit, and forget the sums.

        Raises ValueError when nothing was scored, or when no sequence has a second event to predict.
        """
        s = self.joined()
        self.parts = {}
        n, events = int(s["predicted"].sum()), int(s["events"].sum())
        if n == 0:
            raise ValueError("no event to predict: every sequence of the split has a single event")
        nats, unit = f"nats/event ({self.unit})", self.unit
        total = -(s["time"] + s["mark"])
        base = -(s["base_time"] + s["mark"])
        out = {
            "nll": Measure(total.sum() / n, n, nats, False),
            "nll_time": Measure(-s["time"].sum() / n, n, nats, False),
            "rmse": Measure(np.sqrt(s["squared"].sum() / n), n, unit, False),
            "mae": Measure(s["absolute"].sum() / n, n, unit, False),
            "base_nll": Measure(base.sum() / events, events, nats, False),
            "base_rmse": Measure(np.sqrt((s["signed"] ** 2).sum() / n), n, unit, False),
            "ks": Measure(float(kstest(s["pit"], "uniform").statistic), n, "", False),
        }
        if self.windowed:
            out["nll_window"] = Measure((total - s["tail"]).sum() / n, n, nats, False)
        if "hits" in s:
            out["nll_mark"] = Measure(-s["mark"].sum() / n, n, "nats/event", False)
            out["accuracy"] = Measure(s["hits"].sum() / n, n, "fraction", True)
        if self.truth is not None:
            out |= self._against_truth(total, s["predicted"], self.truth[s["index"]], nats)
        return {name: m._replace(value=float(m.value)) for name, m in out.items()}

    def _against_truth(self, nll: np.ndarray, counts: np.ndarray, truth: np.ndarray, unit: str) -> dict[str, Measure]:
        """score(model) - score(truth) on the same events, standard error over sequences (protocol, 6.2)."""
        n = int(counts.sum())
        difference = nll + truth
        excess = difference.sum() / n
        residual = difference - counts * excess
        spread = np.sqrt((residual**2).sum() * len(counts) / max(len(counts) - 1, 1)) / n
        return {
            "true_nll": Measure(-truth.sum() / n, n, unit, False),
            "excess_nll": Measure(excess, n, unit, False),
            "excess_nll_se": Measure(spread, n, unit, False),
        }


def calibration(pit: np.ndarray) -> dict[str, Any]:
    """The probability integral transform as plain numbers: a histogram (1 everywhere = calibrated) and its ECDF."""
    density, _ = np.histogram(pit, bins=PIT_BINS, range=(0, 1), density=True)
    levels = np.linspace(0, 1, PIT_BINS + 1)
    reached = np.searchsorted(np.sort(pit), levels, side="right") / len(pit)
    return {
        "levels": levels.tolist(),
        "density": density.tolist(),
        "reached": reached.tolist(),
        "ks": float(kstest(pit, "uniform").statistic),
        "n": len(pit),
    }


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
