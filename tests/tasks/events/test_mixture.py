"""The mixture of log-normals as an object: every answer against a slower way to get it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import lognorm

from tasks.events.mixture import LogNormalMixture


@pytest.fixture
def law():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    return LogNormalMixture(torch.log_softmax(raw[0], -1), raw[1], 0.3 + 0.6 * torch.sigmoid(raw[2]))


def _at(law: LogNormalMixture, x: float) -> torch.Tensor:
    return torch.full((len(law.means),), x, dtype=law.means.dtype)


def test_density_integrates_to_one_and_is_minus_the_slope_of_survival(law):
    x = torch.logspace(-6, 6, 20001, base=math.e, dtype=torch.float64) ** 2
    density = torch.stack([law.log_prob(_at(law, float(v))).exp() for v in x[::20]], 1)
    area = torch.trapezoid(density * x[::20], x[::20].log(), dim=1)
    assert torch.allclose(area, torch.ones_like(area), atol=1e-6)
    h = 1e-6
    for v in (0.1, 1.0, 5.0):
        slope = (law.log_survival(_at(law, v + h)).exp() - law.log_survival(_at(law, v - h)).exp()) / (2 * h)
        assert torch.allclose(-slope, law.log_prob(_at(law, v)).exp(), rtol=1e-6)
    assert torch.allclose(law.log_survival(_at(law, 0.0)), _at(law, 0.0), atol=1e-12)


def test_answers_equal_scipy(law):
    weights, x = law.log_weights.exp().numpy(), 1.7
    parts = lognorm(s=law.sigmas.numpy(), scale=np.exp(law.means.numpy()))
    assert np.allclose(law.log_prob(_at(law, x)).exp(), (weights * parts.pdf(x)).sum(1), rtol=1e-12)
    assert np.allclose(law.log_survival(_at(law, x)).exp(), (weights * parts.sf(x)).sum(1), rtol=1e-12)
    assert np.allclose(law.cdf(_at(law, x)), (weights * parts.cdf(x)).sum(1), rtol=1e-12)
    assert np.allclose(law.mean(), (weights * parts.mean()).sum(1), rtol=1e-12)
    assert np.allclose(law.hazard(_at(law, x)), (weights * parts.pdf(x)).sum(1) / (weights * parts.sf(x)).sum(1))


def test_quantile_inverts_cdf_also_of_what_remains(law):
    for q in (0.001, 0.5, 0.93):
        assert torch.allclose(law.cdf(law.quantile(q)), _at(law, q), atol=1e-7)
        for elapsed in (0.0, 0.5, 40.0):
            rest = law.conditional(_at(law, elapsed))
            wait = rest.quantile(q)
            assert torch.allclose(-torch.expm1(rest.log_survival(wait)), _at(law, q), atol=1e-6)
    with pytest.raises(ValueError, match="q=1"):
        law.quantile(1.0)


def test_what_remains_is_the_law_given_that_nothing_came(law):
    elapsed, wait = _at(law, 0.8), _at(law, 1.3)
    rest = law.conditional(elapsed)
    expected = law.log_prob(elapsed + wait) - law.log_survival(elapsed)
    assert torch.allclose(rest.log_prob(wait), expected)
    assert torch.allclose(rest.hazard(wait), law.hazard(elapsed + wait))
    assert torch.allclose(rest.within(wait), 1 - rest.log_survival(wait).exp())
    fresh = law.conditional(_at(law, 0.0))
    assert torch.allclose(fresh.mean(), law.mean())
    grid = torch.linspace(0, 400, 400001, dtype=torch.float64)
    tail = torch.stack([rest.log_survival(_at(law, float(g))).exp() for g in grid[::100]], 1)
    assert torch.allclose(rest.mean(), torch.trapezoid(tail, grid[::100], dim=1), rtol=2e-3)


def test_samples_have_the_mean_and_the_spread(law):
    one = LogNormalMixture(*(t[:1].expand(200000, -1) for t in (law.log_weights, law.means, law.sigmas)))
    drawn = one.sample(torch.Generator().manual_seed(1))
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(float(drawn.mean() - law.mean()[0])) < 4 * float(error)
    below = (drawn <= law.quantile(0.3)[0]).double().mean()
    assert abs(float(below) - 0.3) < 4 * math.sqrt(0.21 / len(drawn))


def test_standardised_parameters_carry_their_jacobian(law):
    loc, scale, x = 1.5, 2.5, _at(law, 3.0)
    plain = LogNormalMixture.standardised(law.log_weights, law.means, law.sigmas, loc, scale)
    u = (x.log() - loc) / scale  # the density of log-gaps on the standard scale, and its two Jacobians
    normal = torch.logsumexp(
        law.log_weights - 0.5 * ((u[:, None] - law.means) / law.sigmas) ** 2 - law.sigmas.log(), -1
    ) - 0.5 * math.log(2 * math.pi)
    assert torch.allclose(plain.log_prob(x), normal - math.log(scale) - x.log())


def test_tails_stay_finite_in_float32_with_finite_gradients():
    means = torch.zeros(2, 2, requires_grad=True)
    law = LogNormalMixture(torch.full((2, 2), math.log(0.5)), means, torch.full((2, 2), 0.1))
    far = torch.tensor([1e-6, 1e6])
    total = law.log_prob(far).sum() + law.log_survival(far).sum()
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(means.grad).all()
    assert law.log_survival(far)[1] < -1000  # where 1 - cdf would be 0
