"""Tables: every dataset has its row, nothing unlike is averaged, nothing missing is hidden."""

from __future__ import annotations

import math
import time

import pandas as pd
import pytest

from tasks.suite.coverage import Coverage, coverage
from tasks.suite.layout import DATASETS, FAMILY_OF, LAYOUTS
from tasks.suite.references import load_references
from tasks.suite.tables import OURS, PUBLISHED, MixedRecordsError, build, sets_of, write_tables

READY = {name: Coverage(True, name) for name in FAMILY_OF}
NO_REFERENCES = load_references().iloc[:0]


def _tables(records, *, profile="quick", protocol="honest", known=READY, references=NO_REFERENCES, **options):
    built = build(records, profile=profile, protocol=protocol, coverage=known, references=references, **options)
    return {table.key: table for table in built}


def _line(table, dataset, metric, horizon=None):
    frame = table.shown
    rows = frame[(frame["", "dataset"] == dataset) & (frame["", "metric"] == metric)]
    rows = rows if horizon is None else rows[rows["", "horizon"] == str(horizon)]
    assert len(rows) == 1
    return {name: rows.iloc[0][group, name] for group, name in frame.columns}


def _difference(line):
    return line["aaren - transformer, 95 % interval"]


def test_all_38_rows_without_a_single_record():
    known = READY | {
        "ECL": Coverage(False, "", "ECL was not found", "download electricity.csv"),
        "Uber": Coverage(False, "Uber-sample", "Uber was not found", "bring the CSV"),
    }
    tables = _tables([], known=known)
    assert list(tables) == [*(layout.key for layout in LAYOUTS), "summary"]
    for layout in LAYOUTS:
        assert list(dict.fromkeys(tables[layout.key].shown["", "dataset"])) == list(layout.datasets)
    assert sum(len(datasets) for datasets in DATASETS.values()) == 38
    assert _line(tables["table3_forecasting"], "ECL", "MSE")["note"] == (
        "ECL was not found. To get it: download electricity.csv"
    )
    assert "Uber-sample is at hand" in _line(tables["table2_events"], "Uber", "NLL")["note"]
    assert _line(tables["table3_forecasting"], "ETTh1", "MSE")["note"] == "not run"
    assert "nothing yet" in tables["table1_rl"].caption


def test_mean_spread_seeds_and_paired_difference(make_record):
    scores = {"aaren": (0.40, 0.44, 0.42), "transformer": (0.41, 0.43, 0.47)}
    records = [
        make_record(model=model, seed=seed, values={"mse": score, "mae": 0.5}, n=2689)
        for model, values in scores.items()
        for seed, score in enumerate(values)
    ]
    line = _line(_tables(records)["table3_forecasting"], "ETTh1", "MSE")
    assert (line["aaren"], line["transformer"]) == ("0.420 ± 0.020 (3)", "0.437 ± 0.031 (3)")
    assert line["test items"] == "2689"
    # differences -0.01, 0.01, -0.05: mean -1/60, standard error 0.017638, t(2, 0.975) = 4.302653
    assert _difference(line) == "-0.017 [-0.093, +0.059]"
    assert _difference(_line(_tables(records)["table3_forecasting"], "ETTh1", "MAE")) == "+0.000 [+0.000, +0.000]"


def test_too_few_seeds_are_undecided(make_record):
    one = [make_record(model=model) for model in ("aaren", "transformer")]
    assert _difference(_line(_tables(one)["table3_forecasting"], "ETTh1", "MSE")) == "+0.000; undecided (1 seed)"
    apart = [make_record(model="aaren", seed=0), make_record(model="transformer", seed=1)]
    assert _difference(_line(_tables(apart)["table3_forecasting"], "ETTh1", "MSE")) == "undecided (no common seed)"
    uneven = [*one, make_record(seed=1), make_record(seed=1, model="transformer"), make_record(seed=2)]
    assert _difference(_line(_tables(uneven)["table3_forecasting"], "ETTh1", "MSE")).endswith("(2 pairs)")


def test_failures_are_never_averaged_away(make_record):
    records = [make_record(seed=seed, values={"mse": 0.4}) for seed in range(3)]
    records += [make_record(seed=seed, status="failed", reason="loss is nan at step 12") for seed in (3, 4)]
    records += [make_record(model="transformer", seed=seed, status="failed") for seed in range(2)]
    table = _tables(records)["table3_forecasting"]
    line = _line(table, "ETTh1", "MSE")
    assert line["aaren"] == "0.400 ± 0.000 (3); failed (2 of 5)"
    assert line["transformer"] == "failed (2 of 2)"
    assert not table.bold.to_numpy().any()
    notes = " ".join(table.notes)
    assert "the mean of the others only" in notes
    assert f"{records[3]['run_id']} failed: loss is nan at step 12." in notes
    assert table.tidy.query("dataset == 'ETTh1' and metric == 'MSE'")["failed"].tolist() == [2, 2]


def test_only_failures_keep_their_row(make_record):
    line = _line(_tables([make_record(status="failed")])["table3_forecasting"], "ETTh1", "MSE")
    assert (line["aaren"], line["transformer"]) == ("failed (1 of 1)", "not run")


def test_many_failures_do_not_bury_the_table(make_record):
    records = [make_record(seed=seed, status="failed") for seed in range(40)]
    notes = _tables(records)["table3_forecasting"].notes
    assert "28 more failed jobs say why in their records." in notes


def test_profiles_and_protocols_never_mix(make_record, tmp_path):
    quick = [make_record(seed=seed) for seed in range(2)]
    others = [
        make_record(profile="paper", values={"mse": 0.1}),
        make_record(family="classification", dataset="JapaneseVowels", protocol="paper_compat"),
    ]
    with pytest.raises(MixedRecordsError, match="given 2 records of others"):
        _tables(quick + others)
    assert sets_of(quick + others) == [("paper", "honest"), ("quick", "honest"), ("quick", "paper_compat")]
    from tasks.suite.rebuild import rebuild
    from tasks.suite.records import write

    for record in quick:
        write(record, tmp_path / "runs")
    rebuild([tmp_path / "runs"], tmp_path / "alone", coverage=READY)
    for record in others:
        write(record, tmp_path / "runs")
    rebuild([tmp_path / "runs"], tmp_path / "beside", coverage=READY)
    folders = {path.name for path in (tmp_path / "beside").iterdir()}
    assert folders == {"quick-honest", "paper-honest", "quick-paper_compat"}
    for path in (tmp_path / "alone" / "quick-honest").iterdir():
        assert (tmp_path / "beside" / "quick-honest" / path.name).read_bytes() == path.read_bytes()
    compat = {path.name for path in (tmp_path / "beside" / "quick-paper_compat").glob("*.md")}
    assert compat == {"table4_classification.md", "summary.md"}
    assert "protocol paper_compat" in (tmp_path / "beside/quick-paper_compat/table4_classification.md").read_text()


@pytest.mark.parametrize("variant", ["partial", "sample", "stand_in", "surrogate"])
def test_another_variant_never_fills_the_datasets_cell(make_record, variant):
    label = f"StackOverflow-{variant}"
    records = [make_record(family="events", dataset="StackOverflow", label=label, variant=variant)]
    # and not even when its label pretends
    records += [make_record(family="events", dataset="StackOverflow", variant=variant, seed=1)]
    tables = _tables(records)
    assert not (tables["table2_events"].tidy["seeds"] > 0).any()
    assert (
        f"{label} has a row among the extras"
        in _line(_tables(records, known={})["table2_events"], "StackOverflow", "NLL")["note"]
    )
    extras = tables["extras_events"].shown["", "dataset"].tolist()
    assert label in extras
    assert "Wiki" not in extras


def test_a_set_that_is_synthetic_by_definition_has_its_own_row(make_record):
    records = [
        make_record(family="events", dataset="Sin", variant="synthetic", sources={}, values={"nll": 1.0, "rmse": 1.0})
    ]
    tables = _tables(records)
    assert _line(tables["table2_events"], "Sin", "NLL")["aaren"] == "1.000 (1)"
    shown = tables["table2_events"].shown
    assert set(shown[shown["", "dataset"] == "Sin"]["", "metric"]) == {"NLL", "RMSE"}
    assert "extras_events" not in tables


def test_runs_of_another_configuration_are_listed_not_averaged(make_record):
    records = [make_record(seed=seed, values={"mse": 0.4}) for seed in range(2)]
    stray = make_record(seed=2, lr=0.5, values={"mse": 9.0})
    old = [make_record(seed=seed, version=1, lr=0.3, values={"mse": 7.0}) for seed in range(5)]
    new = make_record(seed=0, version=2, values={"mse": 0.3})
    table = _tables([*records, stray])["table3_forecasting"]
    assert _line(table, "ETTh1", "MSE")["aaren"] == "0.400 ± 0.000 (2)"
    assert any("not averaged in" in note and stray["run_id"] in note for note in table.notes)
    assert _line(_tables([*old, new])["table3_forecasting"], "ETTh1", "MSE")["aaren"] == "0.300 (1)"
    for name in ("config_hash", "run_id"):
        preferred = _tables([*records, stray], prefer={stray[name]})["table3_forecasting"]
        assert _line(preferred, "ETTh1", "MSE")["aaren"] == "9.000 (1)"


def test_models_of_one_row_share_their_options_or_say_so(make_record):
    aaren = [make_record(seed=seed) for seed in range(3)]
    tuned = [make_record(model="transformer", seed=seed, lr=0.5, values={"mse": 0.1}) for seed in range(3)]
    table = _tables(aaren + tuned)["table3_forecasting"]
    marked = [model for model in ("aaren", "transformer") if "‡" in _line(table, "ETTh1", "MSE")[model]]
    assert len(marked) == 1
    assert any(note.startswith("‡") for note in table.notes)
    plain = make_record(model="transformer", seed=0)
    line = _line(_tables([*aaren, *tuned, plain])["table3_forecasting"], "ETTh1", "MSE")
    assert line["transformer"] == "0.400 (1)"  # fewer seeds, but of the row's own options


def test_a_trivial_rule_that_wins_is_marked_and_said(make_record):
    records = [make_record(model=model, values={"mse": 0.5, "mae": 0.3}) for model in ("aaren", "transformer")]
    records.append(make_record(model="window_mean", trivial=True, values={"mse": 0.4, "mae": 0.4}))
    table = _tables(records)["table3_forecasting"]
    assert _line(table, "ETTh1", "MSE")["window_mean"] == "0.400 (1) †"
    assert "†" not in _line(table, "ETTh1", "MAE")["window_mean"]
    assert [note for note in table.notes if note.startswith("†")] == [
        "† ETTh1, horizon 192, MSE: the trivial rule window_mean (0.400) is better than aaren (0.500) and"
        " transformer (0.500)."
    ]


def test_accuracy_is_in_percent_and_more_is_better(make_record):
    records = [
        make_record(family="classification", dataset="JapaneseVowels", model=model, values={"accuracy": score}, n=370)
        for model, score in (("aaren", 0.9716), ("transformer", 0.95), ("mean", 0.2))
    ]
    records.append(
        make_record(family="classification", dataset="JapaneseVowels", model="majority", trivial=True,
                    values={"accuracy": 0.96})
    )  # fmt: skip
    table = _tables(records)["table4_classification"]
    line = _line(table, "JapaneseVowels", "accuracy, %")
    assert (line["aaren"], line["majority"]) == ("97.2 (1)", "96.0 (1)")  # ahead of one of the two only: no mark
    best = table.bold[table.shown["", "dataset"] == "JapaneseVowels"].iloc[0]
    assert [name for _, name in best.index[best]] == ["aaren"]
    assert list(table.shown[OURS].columns[:4]) == ["aaren", "transformer", "mean", "majority"]


def test_horizon_appendix_has_means_only_over_all_horizons(make_record):
    records = [
        make_record(model=model, seed=seed, horizon=horizon, values={"mse": horizon / 100 + seed, "mae": 1.0})
        for model in ("aaren", "transformer")
        for seed in range(2)
        for horizon in (96, 192, 336, 720)
    ]
    records = [r for r in records if not (r["model"] == "transformer" and r["seed"] == 1 and r["horizon"] == 96)]
    table = _tables(records)["horizons"]
    assert _line(table, "ETTh1", "MSE", "mean")["aaren"] == "3.860 ± 0.707 (2)"
    assert _line(table, "ETTh1", "MSE", "mean")["transformer"] == "3.360 (1); failed (1 of 2)"
    partial = [record for record in records if record["horizon"] != 96]
    assert "mean" not in set(_tables(partial)["horizons"].shown["", "horizon"])


def test_published_numbers_stand_apart_with_their_source(make_record):
    table = _tables([make_record(dataset="Exchange")], references=load_references())["table3_forecasting"]
    published = table.shown[PUBLISHED]
    row = published[table.shown["", "dataset"] == "Exchange"].iloc[0]
    name = next(column for column in published.columns if column.startswith("Non-stationary Transformer"))
    assert row[name] == "0.219"
    number = name[name.index("[") :]
    assert any(note.startswith(f"{number} Liu et al. 2022") and "input 96" in note for note in table.notes)
    uea = _tables([], references=load_references())["table4_classification"]
    assert _line(uea, "Heartbeat", "accuracy, %")["majority class [3]"] == "~72.0"
    assert (
        _line(_tables([], references=load_references())["table1_rl"], "hopper-medium", "normalised score")[
            "Decision Transformer (CORL), last [5]"
        ]
        == "65.1 ± 1.6"
    )


def test_the_papers_own_columns_are_never_blank(make_record):
    tables = _tables([make_record(dataset="known/seasonal", variant="synthetic")], references=load_references())
    for layout in LAYOUTS:
        published = tables[layout.key].shown[PUBLISHED]
        named = tables[layout.key].shown["", "metric"] != ""
        for model in ("Aaren", "Transformer"):
            column = published[f"{model} (paper) [1]"]
            assert (column[named] != "").all()
            assert (column[~named] == "").all()
        told = any(note.startswith("not imported:") and "import_paper" in note for note in tables[layout.key].notes)
        assert told == bool(named.any())
    horizons = _tables([make_record(horizon=336)], references=load_references())["horizons"]
    line = _line(horizons, "ETTh1", "MSE", 336)
    assert (line["Aaren (paper) [1]"], line["Transformer (paper) [1]"]) == ("0.650", "not imported")
    assert PUBLISHED not in tables["extras_forecasting"].shown.columns.get_level_values(0)


def test_only_a_part_of_the_real_set_stands_beside_its_published_numbers(make_record):
    def extras(variant):
        record = make_record(
            family="events", dataset="StackOverflow", label=f"StackOverflow-{variant}", variant=variant
        )
        return _tables([record], references=load_references())["extras_events"]

    partial = extras("partial")
    assert _line(partial, "StackOverflow-partial", "accuracy, %")["AttNHP [2]"] == "45.2"
    assert any("is a part of StackOverflow" in note for note in partial.notes)
    for variant in ("sample", "stand_in", "surrogate"):
        assert PUBLISHED not in extras(variant).shown.columns.get_level_values(0)


def test_caption_says_under_which_rules(make_record):
    caption = _tables([make_record(seed=seed) for seed in range(3)])["table3_forecasting"].caption
    for words in (
        "Profile quick", "Indicative numbers", "protocol honest, version 1", "Test split", "val mse",
        "Commit c0ffeec0ff.", "Some CPU (2 cores)", "make reproduce PROFILE=quick SEEDS=3",
    ):  # fmt: skip
        assert words in caption
    paper = _tables([make_record(profile="paper")], profile="paper")["table3_forecasting"].caption
    assert "Indicative" not in paper


def test_files_that_no_longer_exist_go(make_record, tmp_path):
    first = list(_tables([make_record(dataset="known/seasonal", variant="synthetic")]).values())
    assert len(write_tables(first, tmp_path, "quick", "honest")) == 28
    write_tables(list(_tables([make_record()]).values()), tmp_path, "quick", "honest")
    assert len(list((tmp_path / "quick-honest").iterdir())) == 24


def test_the_default_coverage_knows_every_dataset(monkeypatch, tmp_path):
    monkeypatch.setenv("AAREN_DATA", str(tmp_path))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    found = coverage()
    assert set(found) == set(FAMILY_OF)
    assert all(entry.ready or (entry.reason and entry.fix) for entry in found.values())
    assert found["Sin"].ready
    assert not found["ECL"].ready
    assert str(tmp_path) not in str(found)


def test_a_known_optimum_stands_beside_the_models(make_record):
    known = {"dataset": "known/seasonal", "variant": "synthetic", "sources": {}}
    table = _tables([make_record(**known, facts={"artefacts": {"best_mse": 0.25}})])["extras_forecasting"]
    assert _line(table, "known/seasonal", "MSE")["best reachable"] == "0.250"
    assert _line(table, "known/seasonal", "MAE")["best reachable"] == ""
    process = make_record(family="events", dataset="known/hawkes", variant="synthetic", sources={})
    process["metrics"]["test"]["true_nll"] = {"value": 1.2, "n": 9, "unit": "nats", "higher_is_better": False}
    assert _line(_tables([process])["extras_events"], "known/hawkes", "NLL")["best reachable"] == "1.200"
    assert "best reachable" not in _line(_tables([make_record()])["table3_forecasting"], "ETTh1", "MSE")


def test_tidy_numbers_are_unrounded(make_record):
    table = _tables([make_record(values={"mse": 1 / 3, "mae": 1.0})])["table3_forecasting"]
    row = table.tidy.query("dataset == 'ETTh1' and metric == 'MSE'").iloc[0]
    assert row["mean"] == 1 / 3
    assert math.isnan(row["std"])
    assert isinstance(table.tidy, pd.DataFrame)


def test_five_thousand_records_in_time(make_record):
    base = [make_record(model=model, horizon=h) for model in ("aaren", "transformer") for h in (96, 192, 336, 720)]
    records = [
        {**record, "seed": seed, "run_id": f"{record['run_id']}-{seed}"} for record in base for seed in range(625)
    ]
    start = time.process_time()
    tables = _tables(records)
    assert time.process_time() - start < 10
    assert _line(tables["table3_forecasting"], "ETTh1", "MSE")["aaren"].endswith("(625)")
