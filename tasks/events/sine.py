"""Sin: events whose rate follows 1 + sin(t/2) on [0, 32 pi], in the two variants of the protocol (4.2).

The paper's own recipe is not available. A (`sin-poisson`, the default): an inhomogeneous Poisson process.
B (`sin-fixed-n`): the number of events is drawn first, uniformly, and the times are iid draws, sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from tasks.events.laws import NODES, WEIGHTS, TrueLaw, bisect, column
from tasks.events.processes import Process, Simulated

WINDOW = 32 * np.pi


@dataclass(frozen=True)
class SinePoissonLaw(TrueLaw):
    """Rate c (1 + sin(t/2)) at absolute time t; `last` [n] is the time of the last event, `scale` [n] is c."""

    last: np.ndarray
    scale: np.ndarray

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        return np.log(column(self.scale, gap)) + _log_rate(column(self.last, gap) + gap)

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        last = column(self.last, gap)
        return column(self.scale, gap) * (gap + 2 * (np.cos(last / 2) - np.cos((last + gap) / 2)))


class SinePoisson(Process):
    """Variant A; over whole periods the expected NLL is ln 2 - ln c per event."""

    def __init__(self, scale: float = 1.0, window: float = WINDOW) -> None:
        self.scale, self.window = float(scale), float(window)

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Simulated:
        """Thinning of a Poisson process of rate 2c, all sequences at once."""
        counts = rng.poisson(2 * self.scale * self.window, n_sequences)
        times = rng.uniform(0, self.window, (n_sequences, counts.max()))
        kept = (np.arange(counts.max()) < counts[:, None]) & (rng.random(times.shape) < (1 + np.sin(times / 2)) / 2)
        times = np.sort(np.where(kept, times, np.inf), axis=1)[:, : kept.sum(1).max()]
        valid = np.isfinite(times)
        return Simulated(np.where(valid, times, self.window), np.zeros(times.shape, np.int64), valid)

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> TrueLaw:
        last = times[valid]
        return SinePoissonLaw(last, np.full(len(last), self.scale))


@dataclass(frozen=True)
class FixedCountLaw(TrueLaw):
    """After an event at `last` [n], `log_left` [n, C] is log P(c more events follow | history), c = 0 .. C-1.

    With c = 0 no event follows: survival stays above zero, and mean and quantile are those given that one does.
    """

    last: np.ndarray
    log_left: np.ndarray

    def _powers(self, gap: np.ndarray, exponent: np.ndarray) -> np.ndarray:
        """exponent * log of (1 - F(last + gap)) / (1 - F(last)), F the distribution of one draw: [n(, G), C]."""
        last = column(self.last, gap)
        tail = _remaining(last + gap) / np.maximum(_remaining(last), np.finfo(float).tiny)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(exponent == 0, 0.0, exponent * np.log(tail)[..., None])

    def _weights(self, gap: np.ndarray) -> np.ndarray:
        return self.log_left if gap.ndim == 1 else self.log_left[:, None, :]

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        left = np.arange(self.log_left.shape[1])
        return -np.logaddexp.reduce(self._weights(gap) + self._powers(gap, left), axis=-1)

    def log_prob(self, gap: np.ndarray) -> np.ndarray:
        left = np.arange(1, self.log_left.shape[1])
        counted = self._weights(gap)[..., 1:] + self._powers(gap, left - 1) + np.log(left)
        last = column(self.last, gap)
        remaining = np.maximum(_remaining(last), np.finfo(float).tiny)
        return np.logaddexp.reduce(counted, axis=-1) + _log_rate(last + gap) - np.log(remaining)

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        return self.log_prob(gap) + self.compensator(gap)

    def mean(self) -> np.ndarray:
        """In slices: nodes times counts times histories would fill the memory."""
        slices = [np.arange(i, min(i + 256, len(self.last))) for i in range(0, len(self.last), 256)]
        return np.concatenate([type(self)(self.last[rows], self.log_left[rows])._mean() for rows in slices])

    def _mean(self) -> np.ndarray:
        never, horizon = np.exp(self.log_left[:, 0]), (WINDOW - self.last)[:, None]
        x = (NODES + 1) / 2
        survival = np.exp(-self.compensator(horizon * x**4))
        inside = ((survival - never[:, None]) * (horizon * 4 * x**3) * (WEIGHTS / 2)).sum(1)
        return inside / np.maximum(1 - never, 1e-12)

    def quantile(self, q: float) -> np.ndarray:
        never = np.exp(self.log_left[:, 0])
        return bisect(self.compensator, WINDOW - self.last, -np.log(never + (1 - never) * (1 - q)))


class SineFixedCount(Process):
    """Variant B: n ~ U{low .. high}."""

    window = WINDOW

    def __init__(self, low: int = 20, high: int = 200) -> None:
        self.low, self.high = int(low), int(high)

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Simulated:
        counts = rng.integers(self.low, self.high + 1, n_sequences)
        # rejection leaves a sequence at least `high` draws of rate (1 + sin)/2 with certainty for all practical sizes
        draws = 4 * self.high + 100
        times = rng.uniform(0, WINDOW, (n_sequences, draws))
        kept = rng.random(times.shape) < (1 + np.sin(times / 2)) / 2
        kept &= np.cumsum(kept, axis=1) <= counts[:, None]
        if (kept.sum(1) < counts).any():
            raise RuntimeError("too few accepted draws; raise the number of proposals")
        times = np.sort(np.where(kept, times, np.inf), axis=1)[:, : counts.max()]
        valid = np.isfinite(times)
        return Simulated(np.where(valid, times, WINDOW), np.zeros(times.shape, np.int64), valid)

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> TrueLaw:
        """P(n | k events, the last at t) is proportional to n!/(n-k)! (1 - F(t))^(n-k) on the prior's range."""
        last = times[valid]
        seen = np.broadcast_to(np.arange(1, times.shape[1] + 1), times.shape)[valid]
        left = np.arange(self.high + 1)
        count = seen[:, None] + left  # n
        allowed = (count >= self.low) & (count <= self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = np.log(_remaining(last) / WINDOW)[:, None]
            log_left = gammaln(count + 1) - gammaln(left + 1) + np.where(left == 0, 0.0, left * tail)
        log_left = np.where(allowed, log_left, -np.inf)
        return FixedCountLaw(last, log_left - np.logaddexp.reduce(log_left, axis=1)[:, None])


def _log_rate(t: np.ndarray) -> np.ndarray:
    """log(1 + sin(t/2)) as log of 2 sin^2(t/4 + pi/4), which keeps its accuracy near the zeros of the rate."""
    return np.log(2) + 2 * np.log(np.maximum(np.abs(np.sin(t / 4 + np.pi / 4)), np.finfo(float).tiny))


def _remaining(t: np.ndarray) -> np.ndarray:
    """Integral of 1 + sin(s/2) from t to the window's end."""
    t = np.minimum(t, WINDOW)
    return np.maximum(WINDOW - t + 2 * (np.cos(t / 2) - 1), 0.0)
