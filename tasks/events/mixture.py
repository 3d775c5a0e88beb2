"""A mixture of log-normals as the law of the next gap, an object that answers every question in closed form.

    log p(x) = logsumexp_m [ log w_m - z_m^2/2 - log(s_m x) - log(2 pi)/2 ],  z_m = (log x - mu_m) / s_m
    log S(x) = logsumexp_m [ log w_m + log Phi(-z_m) ]

Survival stays in the log domain (protocol, section 3.12), so the far tail is exact. The network works with log gaps
standardised by train statistics; since that is an affine map of log x, standardised parameters become the plain ones
above (mu = loc + scale mu', s = scale s') and the Jacobian needs no term of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import log_ndtr

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_BISECTIONS = 32


@dataclass(frozen=True)
class LogNormalMixture:
    """Laws of n gaps, M components each. log_weights (normalised), means and sigmas of log x: [n, M]."""

    log_weights: Float[Tensor, "n M"]
    means: Float[Tensor, "n M"]
    sigmas: Float[Tensor, "n M"]

    @classmethod
    def standardised(
        cls, log_weights: Tensor, means: Tensor, sigmas: Tensor, loc: Tensor | float, scale: Tensor | float
    ) -> LogNormalMixture:
        """From the parameters of (log x - loc) / scale."""
        return cls(log_weights, means * scale + loc, sigmas * scale)

    def _z(self, gap: Float[Tensor, " n"]) -> Float[Tensor, "n M"]:
        return (torch.log(gap)[:, None] - self.means) / self.sigmas

    def log_prob(self, gap: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Log density at gap > 0."""
        parts = self.log_weights - 0.5 * self._z(gap).square() - self.sigmas.log()
        return torch.logsumexp(parts, -1) - torch.log(gap) - _HALF_LOG_TAU

    def log_survival(self, gap: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """log P(X > gap); 0 at gap = 0."""
        return torch.logsumexp(self.log_weights + log_ndtr(-self._z(gap)), -1)

    def cdf(self, gap: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """P(X <= gap), from the lower tails, so that it is exact near 0 as well."""
        return torch.logsumexp(self.log_weights + log_ndtr(self._z(gap)), -1).exp()

    def hazard(self, gap: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """p / S: the rate of the event now, given that it has not come for `gap`."""
        return (self.log_prob(gap) - self.log_survival(gap)).exp()

    def mean(self) -> Float[Tensor, " n"]:
        """E[X] = sum_m w_m exp(mu_m + s_m^2 / 2)."""
        return torch.logsumexp(self.log_weights + self.means + 0.5 * self.sigmas.square(), -1).exp()

    def quantile(self, q: float) -> Float[Tensor, " n"]:
        """The x with P(X <= x) = q, by bisection of log x between the components' own quantiles.

        Raises ValueError unless 0 < q < 1.
        """
        if not 0 < q < 1:
            raise ValueError(f"q={q}: a quantile is asked for a probability strictly between 0 and 1")
        return self._inverse_log_survival(torch.full_like(self.means[:, 0], math.log1p(-q)))

    def _inverse_log_survival(self, target: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The x with log S(x) = target < 0, by bisection of log x; Phi(-d) <= exp(-d^2/2)/2 bounds it."""
        above = torch.sqrt((-2 * (target + math.log(2))).clamp(min=0))[:, None]
        below = torch.sqrt((-2 * torch.log(-2 * torch.expm1(target))).clamp(min=0))[:, None]
        low = (self.means - self.sigmas * below).min(-1).values
        high = (self.means + self.sigmas * above).max(-1).values
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            tail = log_ndtr((self.means - middle[:, None]) / self.sigmas)
            early = torch.logsumexp(self.log_weights + tail, -1) > target
            low, high = torch.where(early, middle, low), torch.where(early, high, middle)
        return ((low + high) / 2).exp()

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, " n"]:
        """One draw from each law."""
        chosen = torch.multinomial(self.log_weights.exp(), 1, generator=generator)
        noise = torch.randn(len(chosen), generator=generator, dtype=self.means.dtype, device=self.means.device)
        mean, sigma = self.means.gather(1, chosen)[:, 0], self.sigmas.gather(1, chosen)[:, 0]
        return (mean + sigma * noise).exp()

    def select(self, index: Tensor) -> LogNormalMixture:
        """The laws at `index`."""
        return LogNormalMixture(self.log_weights[index], self.means[index], self.sigmas[index])

    def conditional(self, elapsed: Float[Tensor, " n"]) -> RemainingWait:
        """The law of the wait that is left when `elapsed` has passed without an event."""
        return RemainingWait(self, elapsed)


@dataclass(frozen=True)
class RemainingWait:
    """p(e + r) / S(e): what is left to wait after e = `elapsed` [n], from the mixture's numbers alone."""

    law: LogNormalMixture
    elapsed: Float[Tensor, " n"]

    def log_prob(self, wait: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.law.log_prob(self.elapsed + wait) - self.law.log_survival(self.elapsed)

    def log_survival(self, wait: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.law.log_survival(self.elapsed + wait) - self.law.log_survival(self.elapsed)

    def within(self, horizon: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The probability of an event in the next `horizon`."""
        return -torch.expm1(self.log_survival(horizon))

    def hazard(self, wait: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.law.hazard(self.elapsed + wait)

    def mean(self) -> Float[Tensor, " n"]:
        """E[X | X > e] - e; E[X; X > e] = sum_m w_m exp(mu_m + s_m^2/2) Phi(s_m - z_m)."""
        law = self.law
        reach = law.sigmas - (torch.log(self.elapsed)[:, None] - law.means) / law.sigmas
        beyond = law.log_weights + law.means + 0.5 * law.sigmas.square() + log_ndtr(reach)
        wait = (torch.logsumexp(beyond, -1) - law.log_survival(self.elapsed)).exp() - self.elapsed
        return wait.clamp(min=0)

    def quantile(self, q: float) -> Float[Tensor, " n"]:
        """The wait within which the event comes with probability q; ValueError unless 0 < q < 1."""
        if not 0 < q < 1:
            raise ValueError(f"q={q}: a quantile is asked for a probability strictly between 0 and 1")
        target = self.law.log_survival(self.elapsed) + math.log1p(-q)
        return (self.law._inverse_log_survival(target) - self.elapsed).clamp(min=0)
