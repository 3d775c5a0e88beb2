"""Aaren against the Transformer: paired over seeds on one row, and over the datasets of a family.

Every difference is Aaren minus Transformer in printed units, whichever direction is better.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats costs most of a second to import

from tasks.suite.cells import Cell

LEVEL = 0.05  # of each one-sided test
EQUIVALENT, BETTER, WORSE, UNDECIDED = VERDICTS = ("equivalent", "better", "worse", "undecided")
POSTERIOR = 0.95  # the probability that decides over datasets
FEWEST_DATASETS = 5  # with fewer, no signed-rank test can reach 5 %
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """Differences first - second, one a seed (averaged over the folds that both have), in the order of the seeds.

    Attributes:
        baseline: the second model's mean over the same runs.
        partial: whether one of the two has runs that the other lacks.
    """

    differences: tuple[float, ...]
    baseline: float
    partial: bool
    higher_is_better: bool

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(np.mean(self.differences))

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN with one seed."""
        n = len(self.differences)
        return float(np.std(self.differences, ddof=1)) / math.sqrt(n) if n > 1 else float("nan")

    def interval(self) -> tuple[float, float]:
        """The 95 % t interval of the mean; NaN with one seed."""
        n = len(self.differences)
        half = float(stdtrit(n - 1, 0.975)) * self.standard_error if n > 1 else float("nan")
        return self.mean - half, self.mean + half


def pair(first: Cell | None, second: Cell | None) -> Paired | None:
    """What two models' cells say about their difference; None unless both have runs of a common seed (and fold)."""
    if first is None or second is None:
        return None
    common = sorted(set(first.values) & set(second.values), key=str)
    if not common:
        return None
    by_seed: dict[int, list[float]] = defaultdict(list)
    for seed, fold in common:
        by_seed[seed].append(first.values[seed, fold] - second.values[seed, fold])
    return Paired(
        tuple(float(np.mean(by_seed[seed])) for seed in sorted(by_seed)),
        float(np.mean([second.values[key] for key in common])),
        max(len(first.values), len(second.values)) > len(common),
        first.higher_is_better,
    )


def difference(first: Cell | None, second: Cell | None) -> str:
    """`first - second` with its 95 % interval, as printed; undecided, and why, when seeds are too few."""
    if first is None or second is None or not first.values or not second.values:
        return ""
    paired, digits = pair(first, second), first.metric.digits
    if paired is None:
        return f"{UNDECIDED} (no common seed)"
    if len(paired.differences) == 1:
        return f"{paired.mean:+.{digits}f}; {UNDECIDED} (1 seed)"
    low, high = paired.interval()
    return f"{paired.mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]" + (
        f" ({len(paired.differences)} pairs)" if paired.partial else ""
    )


class Judgement(NamedTuple):
    """The verdict of a row at its margin, with the p-value of each one-sided test (NaN where there is none).

    `better` and `worse` mean by more than the margin, `equivalent` less than the margin either way.
    """

    verdict: str
    p_equivalent: float
    p_better: float
    p_worse: float


def judge(paired: Paired, margin: float) -> Judgement:
    """Two one-sided t tests (TOST) of the paired differences against ± `margin`, each at 5 %.

    equivalent: both bounds are rejected; better or worse: the difference lies beyond the margin, on that side;
    undecided: neither, or a single seed, from which no spread can be told.
    """
    n, mean, error = len(paired.differences), paired.mean, paired.standard_error
    if n < 2:
        return Judgement(UNDECIDED, *[float("nan")] * 3)
    gain = mean if paired.higher_is_better else -mean
    above, below = _tail(gain + margin, error, n), _tail(margin - gain, error, n)  # p of gain > -margin, gain < margin
    better, worse = _tail(gain - margin, error, n), _tail(-gain - margin, error, n)
    named = {EQUIVALENT: max(above, below), BETTER: better, WORSE: worse}
    verdict = next((name for name, p in named.items() if p < LEVEL), UNDECIDED)
    return Judgement(verdict, *named.values())


def _tail(distance: float, error: float, n: int) -> float:
    """P(T > distance / error) with n - 1 degrees of freedom; without any spread 0, 1, or 1/2 at the bound itself."""
    if error == 0:
        return 0.5 * (1.0 - float(np.sign(distance)))
    return float(stdtr(n - 1, -distance / error))


def iqm(values: Array, axis: int = -1) -> Array:
    """Interquartile mean along `axis`: the mean of the middle half (Agarwal et al. 2021, as `trim_mean` at 25 %)."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=axis))


def stratified_bootstrap(
    groups: Sequence[Sequence[float]], *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the IQM over all values, seeds resampled within each dataset.

    Args:
        groups: per dataset the values of its seeds, at least two.

    Deviations from the dataset's mean are stretched by sqrt(n / (n - 1)): resampling n values at random has that much
    too little spread, and with the usual 3 to 5 seeds the interval would cover 90 % in place of 95.
    """
    rng = np.random.default_rng(seed)
    resampled = []
    for group in groups:
        values, n = np.asarray(group, dtype=float), len(group)
        stretched = values.mean() + math.sqrt(n / (n - 1)) * (values - values.mean())
        resampled.append(stretched[rng.integers(0, n, size=(draws, n))])
    found = iqm(np.concatenate(resampled, axis=1))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def signed_rank(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test over datasets; NaN if no difference is left of zero ones."""
    from scipy.stats import wilcoxon

    values = np.asarray(differences, dtype=float)
    if not np.any(values):
        return float("nan")
    _, p_value = wilcoxon(values)
    return float(p_value)  # pyright: ignore[reportArgumentType]


class Posterior(NamedTuple):
    """The probabilities that a new dataset of the family finds Aaren better, equivalent, or worse."""

    better: float
    equivalent: float
    worse: float


@lru_cache(maxsize=256)
def bayesian_signed_rank(gains: tuple[float, ...], rope: float, draws: int = 10_000) -> Posterior:
    """Bayesian signed-rank test (Benavoli et al. 2014, baycomp) of gains over datasets, positive where Aaren is better.

    The draws are seeded: the same gains give the same probabilities.
    """
    from baycomp import SignedRankTest

    values = np.asarray(gains)
    found = SignedRankTest.probs(values, np.zeros_like(values), rope, nsamples=draws, random_state=0)  # pyright: ignore[reportArgumentType]
    return Posterior(*(float(p) for p in found))
