"""Statistics of the training gaps: what the density is standardised with, and the static law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.errors import DatasetError
from tasks.events.sequences import EventSequences


@dataclass(frozen=True)
class GapStatistics:
    """Mean and sd of log gaps, median gap, and the clock's grid step (0 = continuous), all in one unit."""

    log_mean: float
    log_std: float
    median: float
    grid: float = 0.0


def gap_statistics(train: EventSequences, source: str) -> GapStatistics:
    """Of the gaps of the training sequences. Raises DatasetError when there are none, or all are equal."""
    gaps = train.gaps()
    gaps = gaps[np.isfinite(gaps)]
    if not len(gaps):
        raise DatasetError(source, "no training sequence has two events", "supply sequences with gaps to learn from")
    logs = np.log(gaps)
    spread = float(logs.std())
    if spread < 1e-6:
        fix = "use ties=jitter, which de-quantises a clock of whole steps"
        raise DatasetError(source, f"all {len(gaps)} training gaps are {gaps[0]:.6g}: no density to learn", fix)
    return GapStatistics(float(logs.mean()), spread, float(np.median(gaps)), train.grid)
