"""Verdicts in the tables: a row at its margin, a family over its datasets, and what is said when seeds are too few."""

from __future__ import annotations

import time

import pytest

from tasks.suite.coverage import Coverage
from tasks.suite.layout import DATASETS, FAMILY_OF, LAYOUTS
from tasks.suite.references import load_references
from tasks.suite.render import render
from tasks.suite.tables import build

READY = {name: Coverage(True, name) for name in FAMILY_OF}
UEA = DATASETS["classification"]


def _tables(records):
    references = load_references().iloc[:0]
    built = build(records, profile="quick", protocol="honest", coverage=READY, references=references)
    return {table.key: table for table in built}


def _accuracies(make_record, gains, seeds=3, **options):
    """One classification set a gain: Aaren ahead by that many points, a little more or less each seed."""
    return [
        make_record(
            family="classification", dataset=dataset, model=model, seed=seed,
            values={"accuracy": 0.7 + (gain / 100 + (seed - (seeds - 1) / 2) / 1000 if model == "aaren" else 0.0)},
            **options,
        )
        for dataset, gain in zip(UEA, gains, strict=False)
        for model in ("aaren", "transformer")
        for seed in range(seeds)
    ]  # fmt: skip


def _verdicts(table):
    return [verdict for _, verdict in table.shown.xs("verdict", axis=1, level=1).stack().items() if verdict]


def _family(tables, family, sets="the paper's"):
    shown = tables["summary"].shown.droplevel(0, axis=1)
    found = shown[(shown["family"] == family) & (shown["sets"] == sets)]
    assert len(found) == 1
    return found.iloc[0]


def test_a_row_is_judged_at_its_margin(make_record):
    tables = _tables(_accuracies(make_record, (0.2, 3.0, -3.0, 1.0, 0.0)))
    assert _verdicts(tables["table4_classification"]) == ["equivalent", "better", "worse", "undecided", "equivalent"]
    rule = next(note for note in tables["table4_classification"].notes if note.startswith("Verdict on aaren"))
    assert "accuracy, %: 1 point (" in rule


def test_a_relative_margin_scales_with_the_transformer(make_record):
    for scale, expected in ((1.0, "equivalent"), (0.1, "worse")):
        records = [
            make_record(model=model, seed=seed, values={"mse": scale + (offset + 0.001 * seed if offset else 0)})
            for model, offset in (("aaren", 0.004), ("transformer", 0))
            for seed in range(3)
        ]
        assert _verdicts(_tables(records)["table3_forecasting"]) == [expected]


def test_one_seed_is_undecided_and_said_so(make_record):
    tables = _tables(_accuracies(make_record, (0.1,) * 8, seeds=1))
    assert _verdicts(tables["table4_classification"]) == ["undecided (1 seed)"] * 8
    family = _family(tables, "classification")
    assert family["verdict"] == "undecided (1 seed)"
    assert "[" not in family["aaren - transformer, IQM"]
    assert family["undecided"] == "8"
    first = tables["table4_classification"].notes[0]
    assert first.startswith("Over 8 datasets (accuracy, %; seeds a dataset: 1): undecided (1 seed).")


def test_one_model_alone_has_no_verdict(make_record):
    tables = _tables([make_record(seed=seed) for seed in range(3)])
    assert _verdicts(tables["table3_forecasting"]) == []
    assert not any(note.startswith("Verdict") for note in tables["table3_forecasting"].notes)
    assert _family(tables, "forecasting")["verdict"] == "not run"


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.1, -0.1, 0.2, 0.0, 0.1, -0.2, 0.1, 0.0), "equivalent"),
        ((4.0, 5.0, 3.0, 6.0, 4.5, 3.5, 5.5, 4.2), "better"),
        ((-4.0, -5.0, -3.0, -6.0, -4.5, -3.5, -5.5, -4.2), "worse"),
        ((4.0, -5.0, 3.0, -6.0, 4.5, -3.5, 0.5, 0.2), "undecided"),
        ((0.1, -0.1, 0.2, 0.0), "undecided (4 datasets)"),
    ],
)
def test_a_family_with_a_known_answer(make_record, gains, verdict):
    family = _family(_tables(_accuracies(make_record, gains)), "classification")
    assert family["verdict"] == verdict
    assert family["datasets"] == str(len(gains))
    assert "[" in family["aaren - transformer, IQM"]
    assert sum(float(family[f"P({name})"]) for name in ("better", "equivalent", "worse")) == pytest.approx(1, abs=0.02)


def test_a_lower_error_is_better(make_record):
    records = [
        make_record(dataset=dataset, model=model, seed=seed, values={"mse": error + 0.0001 * seed * error})
        for dataset in DATASETS["forecasting"]
        for model, error in (("aaren", 0.3), ("transformer", 0.4))
        for seed in range(2)
    ]
    family = _family(_tables(records), "forecasting")
    assert (family["verdict"], family["better"], family["metric"]) == ("better", "8", "MSE, horizon 192")
    assert family["aaren - transformer, IQM"].startswith("-25.0 [")


def test_every_horizon_counts_by_its_mean(make_record):
    records = [
        make_record(model=model, seed=seed, horizon=horizon, values={"mse": 1.0, "mae": 1.0})
        for model in ("aaren", "transformer")
        for seed in range(2)
        for horizon in (96, 192, 336, 720)
    ]
    shown = _tables(records)["summary"].shown.droplevel(0, axis=1)
    metrics = shown[shown["family"] == "forecasting"]["metric"].tolist()
    assert metrics == ["MSE, horizon 192", "MSE, mean over the horizons"]
    assert set(shown[shown["family"] == "forecasting"]["signed-rank p"]) == {"all zero"}


def test_variants_are_judged_apart_and_known_sets_not_at_all(make_record):
    event = {"family": "events", "values": {"nll": 1.0, "rmse": 1.0}}
    records = [
        make_record(model=model, seed=seed, **event, **place)
        for model in ("aaren", "transformer")
        for seed in range(2)
        for place in (
            {"dataset": "Wiki"},
            {"dataset": "Uber", "label": "Uber-sample", "variant": "sample"},
            {"dataset": "known/hawkes", "variant": "synthetic"},
        )
    ]
    tables = _tables(records)
    assert _family(tables, "events")["datasets"] == "1"
    assert _family(tables, "events", "other variants of them")["datasets"] == "1"
    assert len(_verdicts(tables["extras_events"])) == 4  # known/hawkes has verdicts of its own


def test_the_summary_is_in_every_format_and_lists_every_family(make_record):
    tables = _tables(_accuracies(make_record, (0.1,) * 6))
    shown = tables["summary"].shown.droplevel(0, axis=1)
    assert shown["family"].tolist() == [layout.family for layout in LAYOUTS if not layout.average]
    for extension in ("md", "tex", "csv", "html"):
        text = render(tables["summary"], extension)
        assert "equivalent" in text
        assert "classification" in text
        assert "multicolumn" not in text
    tidy = tables["table4_classification"].tidy
    lines = tidy[tidy["verdict"] != ""]
    assert set(lines["model"]) == {"aaren"}
    assert ((lines["low"] < lines["difference"]) & (lines["difference"] < lines["high"])).all()
    assert (lines["pairs"] == 3).all()


def test_a_summary_costs_little(make_record):
    records = _accuracies(make_record, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1), seeds=5)
    start = time.process_time()
    _tables(records)
    assert time.process_time() - start < 5
