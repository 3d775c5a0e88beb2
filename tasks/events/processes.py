"""Point processes whose likelihood is known: simulators and, for any history, the exact law of the next event.

They hold the family honest: on their data nobody may beat the truth, and a sound model comes near it (protocol,
section 6). Times start at 0 and end after `n_events` events, or, for Sin, with a `window`. A fixed count makes the mean
of -log p over events a proper score: events cut off by a window are the long gaps, and leaving them out flatters a
law that knows where the window ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.events.laws import LogNormalLaw, PoissonLaw, SelfCorrectingLaw, TrueLaw


class Simulated(NamedTuple):
    """Padded events: times [S, N] float64, marks [S, N] int64, valid [S, N] bool."""

    times: np.ndarray
    marks: np.ndarray
    valid: np.ndarray

    @classmethod
    def stack(cls, times: list[np.ndarray], marks: list[np.ndarray]) -> Simulated:
        """From one [S] array an event rank."""
        stacked = np.stack(times, axis=1)
        return cls(stacked, np.stack(marks, axis=1).astype(np.int64), np.ones(stacked.shape, bool))


class Process:
    """A point process with `n_marks` types, observed on [0, window] (NaN: up to its last event)."""

    n_marks: int = 1
    window: float = np.nan

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Simulated:
        raise NotImplementedError

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> TrueLaw:
        """The law of the wait after each valid event of padded [S, N] sequences, in row order."""
        raise NotImplementedError


class _Renewing(Process):
    """Processes simulated by drawing one wait after another, for all sequences at once."""

    n_events: int

    def _waits(self, now: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Simulated:
        now, times = np.zeros(n_sequences), []
        for count in range(self.n_events):
            now = now + self._waits(now, count, rng)
            times.append(now)
        return Simulated.stack(times, [np.zeros(n_sequences, np.int64)] * len(times))


class Poisson(_Renewing):
    """Constant rate: true NLL 1 - ln rate per event."""

    def __init__(self, rate: float, n_events: int) -> None:
        self.rate, self.n_events = float(rate), n_events

    def _waits(self, now: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.exponential(1 / self.rate, len(now))

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> TrueLaw:
        return PoissonLaw(np.full(int(valid.sum()), self.rate))


class LogNormalRenewal(_Renewing):
    """Independent log-normal gaps: true NLL mu + ln(sigma sqrt(2 pi e)) per event."""

    def __init__(self, mu: float, sigma: float, n_events: int) -> None:
        self.mu, self.sigma, self.n_events = float(mu), float(sigma), n_events

    def _waits(self, now: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.lognormal(self.mu, self.sigma, len(now))

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> TrueLaw:
        n = int(valid.sum())
        return LogNormalLaw(np.full(n, self.mu), np.full(n, self.sigma))


class SelfCorrecting(_Renewing):
    """lambda = exp(mu t - alpha N(t)): every event lowers the rate, time raises it."""

    def __init__(self, mu: float, alpha: float, n_events: int) -> None:
        self.mu, self.alpha, self.n_events = float(mu), float(alpha), n_events

    def _waits(self, now: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        rate = np.exp(self.mu * now - self.alpha * count)
        return np.log1p(self.mu * rng.exponential(1.0, len(now)) / rate) / self.mu

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> TrueLaw:
        count = np.broadcast_to(np.arange(1, times.shape[1] + 1), times.shape)
        log_rate = (self.mu * times - self.alpha * count)[valid]
        return SelfCorrectingLaw(log_rate, np.full(len(log_rate), self.mu))
