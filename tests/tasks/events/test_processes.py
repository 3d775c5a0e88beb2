"""Simulators and exact laws of the known processes, against slow and independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest

from tasks.events.hawkes import Hawkes
from tasks.events.processes import Poisson
from tasks.events.simulate import PROCESSES, generate, log_likelihood, pad, process
from tasks.events.sine import SineFixedCount, SinePoisson

NAMES = tuple(PROCESSES)


def _laws(name, sequences):
    """The law before every predicted event, its gap and its mark."""
    after = process(name).laws(*pad(sequences))
    gaps = sequences.gaps()
    predicted = np.flatnonzero(np.isfinite(gaps))
    return after.select(predicted - 1), gaps[predicted], sequences.marks[predicted]


@pytest.mark.parametrize("name", NAMES)
def test_gaps_are_uniform_under_their_own_law(name):
    """Time rescaling. Where a window cuts long gaps off, only those that could end inside it are compared."""
    sequences = generate(name, seed=1, n_sequences=80)
    law, gap, _ = _laws(name, sequences)
    u = -np.expm1(law.log_survival(gap))
    if np.isfinite(sequences.window_end[0]):
        start = sequences.times[np.flatnonzero(np.isfinite(sequences.gaps())) - 1]
        u = u / -np.expm1(law.log_survival(sequences.window_end[0] - start))
    assert kstest(u, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_density_and_survival_belong_together(name):
    law, gap, _ = _laws(name, generate(name, seed=2, n_sequences=3))
    few = law.select(np.arange(5))
    for i in range(5):
        one = few.select(np.array([i]))
        end = float(gap[i]) * 1.7
        area, _ = quad(lambda x, one=one: float(np.exp(one.log_prob(np.array([x])))[0]), 0, end, limit=200)
        assert area == pytest.approx(-math.expm1(float(one.log_survival(np.array([end]))[0])), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_median_of_the_law(name):
    law, gap, _ = _laws(name, generate(name, seed=3, n_sequences=60))
    keep = np.arange(0, len(gap), 7)
    law, gap = law.select(keep), gap[keep]
    assert abs((gap <= law.quantile(0.5)).mean() - 0.5) < 4 * 0.5 / math.sqrt(len(gap))
    residual = gap - law.mean()
    assert abs(residual.mean()) < 4.5 * residual.std() / math.sqrt(len(gap))


@pytest.mark.parametrize(
    ("name", "expected", "within"),
    [
        ("poisson", 1.0, 0.02),
        ("renewal", -1.0 + math.log(1.4 * math.sqrt(2 * math.pi * math.e)), 0.02),
        ("sin-fixed-n", 0.4828, 0.02),
    ],
)
def test_published_entropies(name, expected, within):
    sequences = generate(name, seed=4, n_sequences=150)
    assert -log_likelihood(process(name), sequences).mean() == pytest.approx(expected, abs=within)


def test_sine_poisson_entropy_is_ln_2_with_first_event_and_survival():
    """Over whole periods the whole log-likelihood is known: N ln 2 less nothing else (protocol, 6.1)."""
    sequences = generate("sin-poisson", seed=5, n_sequences=400)
    t = sequences.times
    total = np.log(1 + np.sin(t / 2)).sum() - 400 * 32 * np.pi
    assert -total / len(t) == pytest.approx(math.log(2), abs=0.02)
    assert len(t) / 400 == pytest.approx(32 * np.pi, abs=2.0)
    law = SinePoisson().laws(*pad(sequences))
    first = SinePoisson().laws(np.zeros((1, 1)), np.zeros((1, 1), int), np.ones((1, 1), bool))
    starts = sequences.offsets[:-1]
    begun = first.select(np.zeros(400, int)).log_prob(t[starts]).sum()
    ends = law.select(sequences.offsets[1:] - 1).log_survival(32 * np.pi - t[sequences.offsets[1:] - 1]).sum()
    assert log_likelihood(SinePoisson(), sequences).sum() + begun + ends == pytest.approx(total, rel=1e-9)


def test_marked_hawkes_against_a_double_loop():
    law = Hawkes([0.2, 0.1], [[[0.1, 0.2], [0.3, 0.0]], [[0.2, 0.1], [0.1, 0.2]]], [0.7, 5.0], 30)
    simulated = law.simulate(2, np.random.default_rng(0))
    after = law.laws(*simulated)
    for s in range(2):
        t, m = simulated.times[s], simulated.marks[s]
        for i in range(1, 30):
            gap = t[i] - t[i - 1]
            rates, compensator = law.mu.copy(), law.mu.sum() * gap
            for j in range(i):
                for e, b in enumerate(law.b):
                    rates += law.a[:, m[j], e] * b * np.exp(-b * (t[i] - t[j]))
                    spent = np.exp(-b * (t[i - 1] - t[j])) - np.exp(-b * (t[i] - t[j]))
                    compensator += law.a[:, m[j], e].sum() * spent
            one = after.select(np.array([s * 30 + i - 1]))
            x = np.array([gap])
            assert one.log_intensity(x)[0] == pytest.approx(np.log(rates.sum()), rel=1e-10)
            assert one.compensator(x)[0] == pytest.approx(compensator, rel=1e-10)
            marks = one.mark_log_probs(x)
            assert marks is not None
            assert marks[0] == pytest.approx(np.log(rates / rates.sum()), rel=1e-10)


def test_fixed_count_law_is_the_bayes_sum():
    law = SineFixedCount(2, 4)
    times = np.array([[3.0, 10.0, 50.0, 0.0]])
    valid = np.array([[True, True, True, False]])
    after = law.laws(times, np.zeros((1, 4), int), valid)

    def share(t):  # F, by numerical integration
        return quad(lambda s: (1 + math.sin(s / 2)) / (32 * math.pi), 0, t, limit=400)[0]

    k, last, gap = 2, 10.0, 7.0
    left = {n: math.factorial(n) / math.factorial(n - k) * (1 - share(last)) ** (n - k) for n in (2, 3, 4)}
    density = sum(
        w * (n - k) * (1 - share(last + gap)) ** (n - k - 1) / (1 - share(last)) ** (n - k)
        for n, w in left.items()
        if n > k
    )
    density *= (1 + math.sin((last + gap) / 2)) / (32 * math.pi) / sum(left.values())
    one = after.select(np.array([1]))
    assert one.log_prob(np.array([gap]))[0] == pytest.approx(math.log(density), abs=1e-8)


def test_seed_decides_and_explosive_processes_are_refused():
    assert np.array_equal(generate("hawkes", 3, 5).times, generate("hawkes", 3, 5).times)
    assert not np.array_equal(generate("hawkes", 3, 5).times, generate("hawkes", 4, 5).times)
    with pytest.raises(ValueError, match="branching ratio"):
        Hawkes([0.1], [1.1], [1.0], 10)
    assert Poisson(2.0, 10).laws(
        np.zeros((1, 1)), np.zeros((1, 1), int), np.ones((1, 1), bool)
    ).mean() == pytest.approx(0.5)
