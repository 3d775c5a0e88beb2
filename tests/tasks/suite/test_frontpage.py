"""The README's tables: every set that ran, no behaviour policy taken for a rule, no set without results left out."""

from __future__ import annotations

import re

from tasks.suite.coverage import Coverage
from tasks.suite.frontpage import front_tables
from tasks.suite.layout import DATASETS, FAMILY_OF
from tasks.suite.references import load_references
from tasks.suite.tables import build

READY = {name: Coverage(True, name) for name in FAMILY_OF}


def _front(records, profile="quick"):
    nothing = load_references().iloc[:0]
    return front_tables(build(records, profile=profile, protocol="honest", coverage=READY, references=nothing))


def _cells(text, dataset):
    line = next(line for line in text.splitlines() if line.startswith(f"| {dataset} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_mean_spread_and_seeds_with_the_best_model_in_bold(make_record):
    scores = {"aaren": (0.40, 0.44, 0.42), "transformer": (0.41, 0.43, 0.48)}
    records = [
        make_record(model=model, seed=seed, values={"mse": score, "mae": 0.5}, n=2689)
        for model, values in scores.items()
        for seed, score in enumerate(values)
    ]
    text = _front(records)
    assert _cells(text, "ETTh1") == ["ETTh1", "2,689", "**0.420 ± 0.020 (3)**", "0.440 ± 0.036 (3)"]
    missing = re.search(r"Without results: (.*)\.", text).group(1).split(", ")
    assert set(missing) == set(DATASETS["forecasting"]) - {"ETTh1"}


def test_a_rule_that_wins_is_said_and_a_failed_job_is_seen(make_record):
    records = [
        make_record(model="aaren", values={"mse": 0.5, "mae": 0.5}),
        make_record(model="transformer", status="failed", reason="loss is nan"),
        make_record(model="repeat_last", values={"mse": 0.3, "mae": 0.5}, trivial=True),
    ]
    text = _front(records)
    assert "failed (1 of 1)" in _cells(text, "ETTh1")[3]
    assert "0.300 (repeat last)" in _cells(text, "ETTh1")
    assert "A rule without training beats both models on: ETTh1 (repeat last)." in text


def test_the_behaviour_policy_is_no_rule_and_has_a_column_of_its_own(make_record):
    label = "hopper-medium-surrogate"
    common = {"family": "rl", "dataset": "hopper-medium", "variant": "surrogate", "label": label}
    records = [
        make_record(model="aaren", values={"normalized_score": 40.0, "excess_action_error": 0.02}, **common),
        make_record(model="transformer", values={"normalized_score": 38.0, "excess_action_error": 0.01}, **common),
        make_record(
            model="behaviour", values={"normalized_score": 50.0, "excess_action_error": 0.0}, trivial=True, **common
        ),
    ]
    returns, excess = _front(records).split("excess action error over the behaviour policy")
    assert _cells(returns, label) == [label, "100", "**40.0 (1)**", "38.0 (1)", "50.0"]
    assert _cells(excess, label) == [label, "100", "0.0200 (1)", "**0.0100 (1)**"]
    assert "beats both" not in returns + excess
    assert set(re.search(r"Without results: (.*)\.", returns).group(1).split(", ")) == set(DATASETS["rl"])


def test_families_without_results_have_no_table(make_record):
    assert _front([]) == ""
    assert "accuracy" not in _front([make_record(model="aaren")])
