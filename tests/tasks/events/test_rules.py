"""Trivial rules and the truth: hand counts, and published rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import lognorm

from tasks.errors import ConfigError
from tasks.events import build_task
from tasks.events.rules import Markov, MostCommonMark, RepeatMark, Rule, Truth, mark_rule
from tasks.events.scores import Scores
from tasks.events.simulate import generate, process


def _config(name, attention=None, **model):
    return {
        "model": {"name": name, "attention": attention},
        "task": {"model": model, "optim": {"name": "adam", "lr": 1e-3}},
        "seed": 0,
        "protocol": "honest",
    }


def test_rules_count_by_hand(make_sequences):
    train = make_sequences([[0, 1, 2, 3], [0, 1]], [[0, 0, 1, 1], [0, 0]], n_marks=3)
    common, repeat, markov = MostCommonMark(train), RepeatMark(train), Markov(train)
    previous, target = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    frequency = np.array([5, 3, 1]) / 9
    assert common.log_prob(previous, target) == pytest.approx(np.log(frequency[target]))
    assert common.guess(previous).tolist() == [0, 0, 0, 0]
    share = 4 / 6  # three of four transitions repeat, one added to both sides
    assert repeat.log_prob(previous, target) == pytest.approx(
        np.log(share * (previous == target) + (1 - share) * frequency[target])
    )
    assert repeat.guess(previous).tolist() == previous.tolist()
    counts = np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    expected = (counts[previous, target] + frequency[target]) / (counts[previous].sum(1) + 1)
    assert markov.log_prob(previous, target) == pytest.approx(np.log(expected))
    assert markov.guess(previous).tolist() == [0, 0, 1, 0]  # after an unseen mark, the most common
    for rule in (common, repeat, markov):
        total = sum(np.exp(rule.log_prob(previous, np.full(4, k))) for k in range(3))
        assert total == pytest.approx(np.ones(4))


def test_markov_of_a_large_vocabulary_is_no_table(make_sequences):
    rng = np.random.default_rng(0)
    train = make_sequences([np.arange(500.0)], [rng.integers(0, 8227, 500)], n_marks=8227)
    assert sum(a.nbytes for a in (Markov(train).pairs, Markov(train).counts)) < 20_000


def test_static_law_is_the_log_normal_of_training_gaps(make_data, random_sequences):
    data = make_data(random_sequences(n=20))
    rule = Rule(data.statistics, mark_rule("static_lognormal", data.splits["train"]))
    scored = rule.score(data.batch("test", np.arange(data.sizes["test"])))
    gaps = data.batch("test", np.arange(data.sizes["test"])).gap.numpy()
    law = lognorm(s=data.statistics.log_std, scale=math.exp(data.statistics.log_mean))
    assert scored.log_prob.numpy() == pytest.approx(law.logpdf(gaps))
    assert scored.log_survival.numpy() == pytest.approx(law.logsf(gaps))
    assert scored.mean.numpy() == pytest.approx(np.full(len(gaps), law.mean()))
    assert scored.median.numpy() == pytest.approx(np.full(len(gaps), law.median()))
    gaps = data.splits["train"].gaps()
    logs = np.log(gaps[np.isfinite(gaps)])
    assert (data.statistics.log_mean, data.statistics.log_std) == pytest.approx((logs.mean(), logs.std()))


@pytest.mark.parametrize("name", ["sin-poisson", "hawkes-marked"])
def test_the_truth_exceeds_itself_by_nothing(make_data, name):
    data = make_data(generate(name, 0, 40), process=process(name))
    scores = Scores("1", data.true_log_likelihood("test"), data.windowed)
    for rows in data.eval_batches("test"):
        batch = data.batch("test", rows)
        scores.add(batch, Truth(process(name)).score(batch))
    found = scores.measures()
    assert found["excess_nll"].value == pytest.approx(0, abs=1e-9)
    assert found["excess_nll_se"].value == pytest.approx(0, abs=1e-9)
    assert found["ks"].value < 0.1


def test_rules_without_a_use_are_refused(make_data, random_sequences):
    unmarked = make_data(random_sequences(n=20, n_marks=1))
    with pytest.raises(ConfigError, match="no marks"):
        build_task(_config("repeat_mark"), unmarked)
    with pytest.raises(ConfigError, match="only of generated"):
        build_task(_config("truth"), unmarked)
    with pytest.raises(ConfigError, match="trivial models of events are"):
        build_task(_config("repeat_last"), unmarked)
    sizes = {"d_model": 15, "n_layers": 1, "n_heads": 1, "d_ff": 8, "dropout": 0.0}
    with pytest.raises(ConfigError, match="d_model=15 must be even"):
        build_task(_config("aaren", "aaren", **sizes), unmarked)
