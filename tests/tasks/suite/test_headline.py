"""The README's first screen: the verdict of every family that ran, in words and numbers, and only between the marks."""

from __future__ import annotations

import pytest

from tasks.suite.coverage import Coverage
from tasks.suite.headline import BEGIN, END, HeadlineError, block, replaced, write_headline
from tasks.suite.layout import DATASETS, FAMILY_OF
from tasks.suite.rebuild import Rebuilt
from tasks.suite.references import load_references
from tasks.suite.tables import build, sets_of

READY = {name: Coverage(True, name) for name in FAMILY_OF}


def _rebuilt(records):
    references = load_references()
    tables = {
        (profile, protocol): build(
            [record for record in records if record["profile"] == profile],
            profile=profile,
            protocol=protocol,
            coverage=READY,
            references=references,
        )
        for profile, protocol in sets_of(records)
    }
    return Rebuilt(tables, [], [], records, READY, references)


def _accuracies(make_record, seeds, better=0.0, profile="quick"):
    return [
        make_record(
            family="classification",
            dataset=dataset,
            model=model,
            seed=seed,
            profile=profile,
            values={"accuracy": 0.8 + number / 100 + seed / 10_000 + (better if model == "aaren" else 0)},
        )
        for number, dataset in enumerate(DATASETS["classification"][:6])
        for model in ("aaren", "transformer")
        for seed in range(seeds)
    ]


def test_three_seeds_give_a_verdict_and_say_that_they_are_few(make_record):
    text = block(_rebuilt(_accuracies(make_record, 3)))
    assert "Time series classification: **equivalent** under `quick`." in text
    assert "Event forecasting: **not run** on the official sets." in text
    assert "3 seeds are few (2 degrees of freedom)" in text
    assert "6 equivalent" in text
    worse = block(_rebuilt(_accuracies(make_record, 3, better=-0.05)))
    assert "Time series classification: **worse** under `quick`." in worse


def test_one_seed_gives_none_and_every_profile_has_its_own(make_record):
    mixed = [*_accuracies(make_record, 1), *_accuracies(make_record, 3, better=0.05, profile="paper")]
    text = block(_rebuilt(mixed))
    assert "Time series classification: **better** under `paper`, **undecided (1 seed)** under `quick`." in text
    assert "With one seed there is no verdict." in text
    assert "results/measured/tables/paper-honest/baselines.md" in text


def test_the_ablation_is_answered_by_the_same_rules_and_leaves_the_verdict_alone(make_record):
    records = _accuracies(make_record, 3)
    without = [record for record in _accuracies(make_record, 3, better=0.05) if record["model"] == "aaren"]
    assert "learned query" not in block(_rebuilt(records))
    for shift, word in ((0.0, "equivalent"), (-0.05, "worse"), (0.05, "better")):
        ablated = [
            make_record(
                family="classification",
                dataset=record["dataset"],
                model="mean",
                seed=record["seed"],
                profile="quick",
                values={"accuracy": record["metrics"]["test"]["accuracy"]["value"] - 0.05 - shift},
            )
            for record in without
        ]
        rebuilt = _rebuilt([*records, *ablated])
        text = block(rebuilt)
        assert f"Time series classification, accuracy, %, `quick`, 6 sets: **{word}** ({100 * shift:+.1f} [" in text
        assert "Time series classification: **equivalent** under `quick`." in text
        (table,) = [table for table in rebuilt.tables["quick", "honest"] if table.key == "ablation"]
        assert ("", "aaren - mean, IQM") in table.shown.columns
        assert table.shown["", "verdict"].tolist() == [word]


def test_nothing_measured_is_said(make_record):
    assert "No run of both models on any dataset yet: `make reproduce`" in block(_rebuilt([]))


def test_only_what_is_between_the_marks_changes(make_record, tmp_path):
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    for spoilt in ("no marks", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(HeadlineError, match="once each"):
            replaced(spoilt, "new")
    path = tmp_path / "README.md"
    path.write_text("no marks")
    with pytest.raises(HeadlineError, match=str(path)):
        write_headline(_rebuilt(_accuracies(make_record, 1)), path)
    assert path.read_text() == "no marks"
