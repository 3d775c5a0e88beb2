"""Rows outside the paper's tables: where the behaviour policy is known, the distance to it is reported too."""

from __future__ import annotations

import pytest

from tasks.suite.layout import extra_metrics_of
from tasks.suite.margins import MARGINS
from tasks.suite.rows import extra_rows


@pytest.mark.parametrize(
    ("dataset", "variant", "expected"),
    [
        ("hopper-medium", "official", ["normalized_score"]),
        ("hopper-medium", "surrogate", ["normalized_score", "excess_action_error"]),
        ("known/hopper-masked", "surrogate", ["excess_action_error", "normalized_score"]),
    ],
)
def test_the_excess_stands_where_the_policy_is_known_and_leads_where_velocities_are_hidden(dataset, variant, expected):
    assert [metric.name for metric in extra_metrics_of("rl", dataset, variant)] == expected


def test_other_families_keep_their_metrics():
    assert [metric.name for metric in extra_metrics_of("forecasting", "ETTh1", "sample")] == ["mse", "mae"]


def test_a_surrogate_has_a_row_a_metric_and_a_margin_for_each(make_record):
    record = make_record(
        family="rl",
        dataset="hopper-medium",
        label="hopper-medium-surrogate",
        variant="surrogate",
        values={"normalized_score": 50.0, "excess_action_error": 0.01},
    )
    rows = extra_rows("rl", [record])
    assert [(row.dataset, row.metric.name) for row in rows] == [
        ("hopper-medium-surrogate", "normalized_score"),
        ("hopper-medium-surrogate", "excess_action_error"),
    ]
    assert all(("rl", row.metric.name) in MARGINS for row in rows)
