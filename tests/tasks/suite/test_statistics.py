"""Known score sets with known answers: tests at a margin, signed ranks, the bootstrap, and a single seed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tasks.suite.cells import Cell
from tasks.suite.layout import DATASETS, EXCESS_ACTION_ERROR, METRICS, Metric, metrics_of
from tasks.suite.margins import MAIN_METRIC, MARGINS
from tasks.suite.statistics import (
    BETTER,
    EQUIVALENT,
    UNDECIDED,
    WORSE,
    Paired,
    bayesian_signed_rank,
    iqm,
    judge,
    pair,
    signed_rank,
    stratified_bootstrap,
)

MSE, ACCURACY = Metric("mse", "MSE"), Metric("accuracy", "accuracy, %", 100.0, 1)


def _cell(model, values, metric=MSE, higher=False):
    keyed = {(seed, None): value for seed, value in enumerate(values)} if isinstance(values, list) else values
    return Cell(model, metric, keyed, 0, (1,), higher, True)


def _paired(differences, baseline=1.0, higher=False):
    return Paired(tuple(differences), baseline, False, higher)


@pytest.mark.parametrize("seed", range(5))
def test_each_p_value_is_that_of_scipys_one_sided_t_test(seed):
    differences = np.random.default_rng(seed).normal(0.3 * seed - 0.6, 0.5, size=5)
    found = judge(_paired(differences, higher=True), 0.4)
    lower = stats.ttest_1samp(differences, -0.4, alternative="greater").pvalue
    upper = stats.ttest_1samp(differences, 0.4, alternative="less").pvalue
    assert found.p_equivalent == pytest.approx(max(lower, upper), rel=1e-9)
    assert found.p_better == pytest.approx(stats.ttest_1samp(differences, 0.4, alternative="greater").pvalue, rel=1e-9)
    assert found.p_worse == pytest.approx(stats.ttest_1samp(differences, -0.4, alternative="less").pvalue, rel=1e-9)
    assert judge(_paired(-differences, higher=False), 0.4) == found


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        # by hand: mean 0, standard error 0.01 / sqrt(3), t(2, 0.95) = 2.920: 90 % interval ± 0.0169
        ((-0.01, 0.0, 0.01), 0.0170, EQUIVALENT),
        ((-0.01, 0.0, 0.01), 0.0168, UNDECIDED),
        ((-0.11, -0.10, -0.09), 0.0830, BETTER),  # a lower error is better; -0.1 + 0.0169 = -0.0831
        ((-0.11, -0.10, -0.09), 0.0832, UNDECIDED),
        ((0.11, 0.10, 0.09), 0.0830, WORSE),
        ((0.5, -0.5, 0.1), 0.1, UNDECIDED),
        ((0.001, 0.001), 0.01, EQUIVALENT),  # without any spread
        ((-0.02, -0.02), 0.01, BETTER),
        ((0.01, 0.01), 0.01, UNDECIDED),  # at the bound itself
        ((0.0,), 1.0, UNDECIDED),  # one seed, however wide the margin
    ],
)
def test_verdicts_with_known_answers(differences, margin, verdict):
    assert judge(_paired(differences), margin).verdict == verdict
    opposite = {BETTER: WORSE, WORSE: BETTER}.get(verdict, verdict)
    assert judge(_paired(differences, higher=True), margin).verdict == opposite


def test_the_tests_keep_their_level():
    """At a true difference of exactly the margin, equivalence (and superiority) is claimed in 5 % of the cases."""
    rng = np.random.default_rng(0)
    verdicts = [judge(_paired(rng.normal(1.0, 0.3, 5), higher=True), 1.0).verdict for _ in range(2000)]
    for name in (EQUIVALENT, BETTER):
        assert verdicts.count(name) / 2000 == pytest.approx(0.05, abs=0.015)
    assert WORSE not in verdicts


def test_pairs_are_seeds_averaged_over_the_folds_both_have():
    first = _cell("aaren", {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 9.0})
    second = _cell("transformer", {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 1.0})
    found = pair(first, second)
    assert found.differences == (2.0, 4.0)
    assert found.baseline == pytest.approx(1 / 3)
    assert found.partial
    assert pair(first, None) is None
    assert pair(first, _cell("transformer", {(7, 0): 1.0})) is None


def test_the_interval_is_the_t_interval_and_unknown_for_one_seed():
    differences = [0.1, 0.25, -0.05, 0.3]
    expected = stats.t.interval(0.95, 3, loc=np.mean(differences), scale=stats.sem(differences))
    assert _paired(differences).interval() == pytest.approx(expected)
    assert all(math.isnan(bound) for bound in _paired([0.1]).interval())


def test_the_interquartile_mean_drops_a_quarter_on_each_side():
    assert iqm(np.array([-100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 900.0])) == pytest.approx(3.5)
    assert iqm(np.array([[1.0, 2.0, 3.0, 40.0], [0.0, 0.0, 2.0, 2.0]])).tolist() == [2.5, 1.0]


def test_the_bootstrap_interval_covers_95_per_cent():
    """1,000 drawn families of 8 datasets with 5 seeds each: the interval holds the true IQM in 95 % ± 2 of them."""
    rng = np.random.default_rng(1)
    centres = np.linspace(-1.0, 1.0, 8)
    truth = float(iqm((centres[:, None] + rng.normal(size=(8, 100_000))).ravel()))
    hits = 0
    for trial in range(1000):
        low, high = stratified_bootstrap((centres[:, None] + rng.normal(size=(8, 5))).tolist(), draws=400, seed=trial)
        hits += low <= truth <= high
    assert hits / 1000 == pytest.approx(0.95, abs=0.02)


def test_the_bootstrap_is_seeded_and_of_no_width_without_spread():
    groups = [[1.0, 2.0, 3.0], [2.0, 2.5]]
    assert stratified_bootstrap(groups) == stratified_bootstrap(groups)
    assert stratified_bootstrap([[1.0, 1.0], [1.0, 1.0, 1.0]]) == (1.0, 1.0)


def test_signed_rank_of_known_score_sets():
    assert signed_rank([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 2**5)  # all of one sign: 2 of 32 sign patterns
    assert signed_rank([1.0, -2.0, 3.0]) == pytest.approx(6 / 8)  # T = 2: P(T <= 2) = 3/8, two-sided
    assert math.isnan(signed_rank([0.0, 0.0]))


def test_signed_rank_against_all_sign_patterns():
    scores = np.array([0.9, -0.4, 1.7, 2.2, -0.1, 0.3, 1.1, -0.6])
    ranks = np.argsort(np.argsort(np.abs(scores))) + 1
    signs = np.array(list(itertools.product((0, 1), repeat=len(scores))))
    sums, total = signs @ ranks, ranks.sum()
    smallest = np.minimum(sums, total - sums)
    observed = min(ranks[scores > 0].sum(), ranks[scores < 0].sum())
    assert signed_rank(scores.tolist()) == pytest.approx((smallest <= observed).mean())


def test_the_bayesian_test_with_known_outcomes():
    within = bayesian_signed_rank((0.1, -0.2, 0.3, -0.1, 0.2, 0.0, -0.3, 0.15), 1.0)
    assert within == (0.0, 1.0, 0.0)
    ahead = bayesian_signed_rank((5.0, 4.0, 6.0, 3.0, 5.5, 4.5), 1.0)
    assert ahead.better > 0.99
    assert bayesian_signed_rank((-5.0, -4.0, -6.0, -3.0, -5.5, -4.5), 1.0).worse == pytest.approx(
        ahead.better, abs=0.01
    )
    split = bayesian_signed_rank((3.0, -3.0, 3.0, -3.0, 3.0, -3.0), 1.0)
    assert max(split) < 0.95
    assert sum(split) == pytest.approx(1.0)


def test_every_printed_metric_has_a_margin_and_every_family_a_main_metric():
    for family, datasets in DATASETS.items():
        assert (family, MAIN_METRIC[family]) in MARGINS
        for dataset in datasets:
            assert MAIN_METRIC[family] in {metric.name for metric in metrics_of(family, dataset)}
    for (family, metric), margin in MARGINS.items():
        assert metric in {m.name for m in (*METRICS[family], EXCESS_ACTION_ERROR)}
        assert margin.size > 0
        assert margin.why
    relative = MARGINS["forecasting", "mse"]
    assert relative.around(-0.5) == pytest.approx(0.01)
    assert MARGINS["classification", "accuracy"].around(50.0) == 1.0
    assert MARGINS["classification", "accuracy"].text == "1 point"
