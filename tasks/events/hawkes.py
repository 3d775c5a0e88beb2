"""Exponential Hawkes processes, univariate and marked: exact law and exact simulation.

lambda_k(t) = mu_k + sum_{t_j < t} sum_e a[k, m_j, e] b_e exp(-b_e (t - t_j)): an event of type m excites type k through
E exponentials (protocol, section 6.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.events.laws import TrueLaw, column
from tasks.events.processes import Process, Simulated


@dataclass(frozen=True)
class HawkesLaw(TrueLaw):
    """Rate of type k: base[n, k] + sum_e excite[n, k, e] exp(-decay[n, e] d), d since the last event.

    E exponentials, K types; the marginal rate is the sum over k. excite is a b R, R the faded count of past events.
    """

    base: np.ndarray
    excite: np.ndarray
    decay: np.ndarray

    def _rates(self, gap: np.ndarray) -> np.ndarray:
        """[n, K] or [n, K, G]."""
        fade = np.exp(-column(self.decay, gap) * gap[:, None])  # [n, E(, G)]
        return column(self.base, gap) + np.einsum("nke,ne...->nk...", self.excite, fade)

    def log_intensity(self, gap: np.ndarray) -> np.ndarray:
        return np.log(self._rates(gap).sum(1))

    def compensator(self, gap: np.ndarray) -> np.ndarray:
        decay = column(self.decay, gap)
        spent = -np.expm1(-decay * gap[:, None]) / decay
        return column(self.base.sum(1), gap) * gap + np.einsum("ne,ne...->n...", self.excite.sum(1), spent)

    def mark_log_probs(self, gap: np.ndarray) -> np.ndarray | None:
        if self.base.shape[1] == 1:
            return None
        rates = self._rates(gap)
        return np.log(rates) - np.log(rates.sum(1, keepdims=True))


class Hawkes(Process):
    """mu [K], a [K, K, E] (mean offspring of type k from type m through exponential e), b [E]."""

    def __init__(self, mu: list[float], a: list, b: list[float], n_events: int) -> None:
        self.mu, self.b, self.n_events = np.asarray(mu, float), np.asarray(b, float), n_events
        self.a = np.asarray(a, float).reshape(len(mu), len(mu), len(b))
        self.n_marks = len(mu)
        radius = np.abs(np.linalg.eigvals(self.a.sum(2))).max()
        if radius >= 1:
            raise ValueError(f"branching ratio {radius:.3g} must be below 1, or the process explodes")

    def laws(self, times: np.ndarray, marks: np.ndarray, valid: np.ndarray) -> HawkesLaw:
        log_fade = self.b * times[..., None]  # [S, N, E]
        counted = valid[..., None] & (marks[..., None] == np.arange(self.n_marks))  # [S, N, K]
        grown = np.where(counted[..., None], log_fade[:, :, None, :], -np.inf)  # [S, N, K, E]
        with np.errstate(invalid="ignore"):
            faded = (np.logaddexp.accumulate(grown, axis=1) - log_fade[:, :, None, :])[valid]
        excite = np.einsum("kme,nme->nke", self.a * self.b, np.exp(faded))  # R: [n, K, E]
        n = len(excite)
        return HawkesLaw(np.tile(self.mu, (n, 1)), excite, np.tile(self.b, (n, 1)))

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Simulated:
        """Exact, all sequences in step: the wait is the least of the background's and each exponential's own wait."""
        now = np.zeros(n_sequences)
        excite = np.zeros((n_sequences, self.n_marks, len(self.b)))
        times, marks = [], []
        for _ in range(self.n_events):
            total = excite.sum(1)  # [S, E]
            with np.errstate(divide="ignore", invalid="ignore"):
                spent = 1 + self.b * np.log(rng.random(total.shape)) / total
                waits = np.where(spent > 0, -np.log(np.maximum(spent, 1e-300)) / self.b, np.inf)
            wait = np.minimum(waits.min(1), rng.exponential(1 / self.mu.sum(), n_sequences))
            now = now + wait
            excite = excite * np.exp(-self.b * wait[:, None])[:, None, :]
            rates = np.cumsum(self.mu + excite.sum(2), axis=1)
            mark = (rng.random(n_sequences)[:, None] * rates[:, -1:] >= rates[:, :-1]).sum(1)
            excite = excite + (self.a * self.b)[:, mark, :].transpose(1, 0, 2)
            times.append(now)
            marks.append(mark)
        return Simulated.stack(times, marks)
