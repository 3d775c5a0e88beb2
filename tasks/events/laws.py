"""The exact law of the next event of a point process, for many histories at once (numpy, float64).

A law is given by its intensity after the last event and the integral of it, the compensator (protocol, section 6.1):
log p(gap) = log lambda(gap) - Lambda(gap) and log S(gap) = -Lambda(gap). Mean and quantiles follow numerically.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import log_ndtr

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)
_CERTAIN = 32.0  # a compensator past which e^-Lambda (1e-14) no longer counts


def column(parameter: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Append axes so that a [n] parameter broadcasts against gaps [n] or [n, G]."""
    return parameter.reshape(parameter.shape + (1,) * (gap.ndim - 1))


@dataclass(frozen=True)
class TrueLaw:
    """Laws of the next gap for n histories. Subclasses hold [n, ...] arrays and give intensity and compensator."""

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def mark_log_probs(self, gap: np.ndarray) -> np.ndarray | None:
        """log P(mark | gap, history), [n, K]; None for unmarked processes."""
        return None

    def select(self, index: np.ndarray) -> TrueLaw:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def log_prob(self, gap: np.ndarray) -> np.ndarray:
        return self.log_intensity(gap) - self.compensator(gap)

    def log_survival(self, gap: np.ndarray) -> np.ndarray:
        return -self.compensator(gap)

    def _horizon(self) -> np.ndarray:
        """A gap per history by which the next event has come, or, in a closed window, no longer can."""
        horizon = np.ones(len(getattr(self, fields(self)[0].name)))
        for _ in range(60):
            short = self.compensator(horizon) < _CERTAIN
            if not short.any():
                break
            horizon = np.where(short, 2 * horizon, horizon)
        return horizon

    def mean(self) -> np.ndarray:
        """E[gap] by Gauss-Legendre on a grid that is dense near zero, [n]."""
        horizon = self._horizon()[:, None]
        x = (NODES + 1) / 2
        gap = horizon * x**4
        return (np.exp(-self.compensator(gap)) * (horizon * 4 * x**3) * (WEIGHTS / 2)).sum(1)

    def quantile(self, q: float) -> np.ndarray:
        """The gap by which the next event has come with probability q, by bisection, [n]."""
        return bisect(self.compensator, self._horizon(), np.full(len(self._horizon()), -np.log1p(-q)))


def bisect(function: Callable[[np.ndarray], np.ndarray], high: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where a growing function of [n] reaches its targets, between 0 and `high`."""
    low = np.zeros_like(high)
    for _ in range(60):
        middle = (low + high) / 2
        early = function(middle) < target
        low, high = np.where(early, middle, low), np.where(early, high, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class PoissonLaw(TrueLaw):
    """Constant rate [n]."""

    rate: np.ndarray

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.log(column(self.rate, gap)), gap.shape)

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        return column(self.rate, gap) * gap


@dataclass(frozen=True)
class LogNormalLaw(TrueLaw):
    """Independent log-normal gaps, mu [n] and sigma [n]."""

    mu: np.ndarray
    sigma: np.ndarray

    def _z(self, gap: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return (np.log(gap) - column(self.mu, gap)) / column(self.sigma, gap)

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        return -log_ndtr(-self._z(gap))

    def log_prob(self, gap: np.ndarray) -> np.ndarray:
        z = self._z(gap)
        return -0.5 * z**2 - np.log(column(self.sigma, gap) * gap) - 0.5 * np.log(2 * np.pi)

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        return self.log_prob(gap) + self.compensator(gap)

    def mean(self) -> np.ndarray:
        return np.exp(self.mu + self.sigma**2 / 2)


@dataclass(frozen=True)
class SelfCorrectingLaw(TrueLaw):
    """Rate exp(x + mu d) with x [n] the log rate just after the last event, mu [n] its slope."""

    log_rate: np.ndarray
    slope: np.ndarray

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        return column(self.log_rate, gap) + column(self.slope, gap) * gap

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        slope = column(self.slope, gap)
        # the exponent is capped where the compensator is astronomically past certainty anyway
        return np.exp(column(self.log_rate, gap)) * np.expm1(np.minimum(slope * gap, 600.0)) / slope
