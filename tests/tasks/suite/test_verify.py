"""What makes results unfit to publish: each fault made, and found with its place and the way out."""

from __future__ import annotations

import copy
import shutil

import pandas as pd
import pytest

from tasks.suite.anomalies import NOTES_NAME, NotesError, read_notes
from tasks.suite.coverage import Coverage
from tasks.suite.gathered import read_gathered, write_gathered
from tasks.suite.layout import FAMILY_OF
from tasks.suite.rebuild import rebuild
from tasks.suite.records import checksum
from tasks.suite.references import load_references
from tasks.suite.verify import all_ready, of_problems, of_records, of_references, of_tables, suspicious

REFERENCES = load_references()


def _whats(found, serious=True):
    return [finding.what for finding in found if finding.serious is serious]


def test_whole_records_raise_no_doubt(make_record):
    records = [make_record(model=model, seed=seed) for model in ("aaren", "transformer") for seed in range(2)]
    assert of_records(records, {}, all_ready()) == []


def test_doubts_about_records(make_record):
    dirty = make_record(seed=1)
    dirty["git"] = {"commit": "c0ffee", "dirty": True}
    outside = make_record(seed=2)
    outside["git"] = {"commit": None, "dirty": None}
    infinite = make_record(seed=3)
    infinite["metrics"]["test"]["mse"]["value"] = float("inf")
    percent = make_record(family="classification", dataset="Handwriting", values={"accuracy": 31.4})
    empty = make_record(seed=4, n=0)
    twice = [make_record(seed=5), make_record(seed=5, lr=0.5)]
    failed = make_record(seed=6, status="failed", reason="loss is nan")
    old = make_record(seed=7)
    records = [dirty, outside, infinite, percent, empty, *twice, failed, old]
    known = {name: Coverage(True, name) for name in FAMILY_OF if name != "ECL"}
    found = of_records(records, {old["run_id"]: "protocol version 1, now 2"}, known)
    assert _whats(found) == [
        "made with local changes",
        "made outside a git checkout",
        "test mse is inf",
        "test accuracy 31.4 is no fraction",
        "test mse was scored on nothing",
        "test mae was scored on nothing",
        "stale: protocol version 1, now 2",
        "several configurations of one cell and seed",
        "says nothing on ECL",
    ]
    assert _whats(found, serious=False) == ["failed: loss is nan"]
    assert all(record["run_id"] in str(found) for record in (dirty, outside, infinite, percent, empty, *twice, old))


@pytest.fixture
def published(varied_records, tmp_path):
    write_gathered(varied_records, all_ready(), tmp_path)
    rebuild([], tmp_path / "tables", gathered=tmp_path)
    return tmp_path


def _table_findings(folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("fresh")
    fresh = {str(path.relative_to(made)): path.read_bytes() for path in rebuild([], made, gathered=folder).files}
    return of_tables(folder / "tables", fresh, "rebuild")


def test_tables_must_be_what_the_records_say(published, tmp_path_factory):
    assert _table_findings(published, tmp_path_factory) == []
    tables = published / "tables" / "quick-honest"
    page = tables / "table3_forecasting.md"
    page.write_text(page.read_text().replace("0.593", "0.493"))
    (tables / "table1_rl.csv").unlink()
    shutil.copytree(tables, published / "tables" / "paper-honest")
    found = _table_findings(published, tmp_path_factory)
    assert [finding.what for finding in found if "quick-honest" in finding.where] == [
        "missing",
        "is not what the records say: edited, or older than they are",
    ]
    assert {finding.what for finding in found if "paper-honest" in finding.where} == {"belongs to no record"}


def test_a_missing_extra_edited_foreign_or_repeated_record(published, make_record, tmp_path_factory):
    path = published / "records.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)

    def problems(changed):
        changed.to_csv(path, index=False)
        return of_problems(read_gathered(published)[0].problems)

    assert problems(frame[frame.index != frame.index[frame["status"] == "done"][0]]) == []
    assert "is not what the records say" in _table_findings(published, tmp_path_factory)[0].what
    assert "repeats run" in problems(pd.concat([frame, frame.iloc[:1]]))[0].what
    edited = frame.copy()
    edited["metrics"] = edited["metrics"].str.replace('"n":100', '"n":101')
    found = problems(edited)
    assert found
    assert all("checksum" in finding.what and "line" in finding.where for finding in found)
    foreign = problems(frame.assign(schema_version="2"))
    assert all("foreign record" in finding.what and "use the suite that wrote it" in finding.fix for finding in foreign)
    other = copy.deepcopy(make_record(seed=9))
    other["seed"] = 8
    other["checksum"] = checksum(other)
    write_gathered([other], all_ready(), published)
    assert "does not follow from its config" in of_problems(read_gathered(published)[0].problems)[0].what


def _etth1(make_record, errors, dataset="ETTm2", **options):
    return [
        make_record(dataset=dataset, model="transformer", seed=seed, values={"mse": error}, **options)
        for seed, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("errors", "flagged"),  # ETTm2 at 192: the Non-stationary Transformer has 0.280
    [
        ((0.250, 0.252, 0.251), True),  # 0.029 better, three standard errors are 0.0017
        ((0.20, 0.30, 0.25), False),  # as good, but within three standard errors of 0.0289
        ((0.281, 0.282), False),  # worse
        ((0.27999, 0.27999), False),  # better by less than the printed digits
        ((0.262,), True),  # one seed: three margins of 2 % are 0.0168
        ((0.264,), False),
    ],
)
def test_a_cell_too_good_to_be_true_is_flagged(make_record, errors, flagged):
    found = suspicious(_etth1(make_record, errors), REFERENCES, all_ready())
    assert bool(found) == flagged
    if flagged:
        assert found[0].place == "quick-honest: ETTm2, horizon 192, mse, transformer"
        assert "better than 0.280 of Non-stationary Transformer (Liu et al. 2022" in found[0].what


def test_a_note_settles_it(make_record, tmp_path):
    records = _etth1(make_record, (0.25, 0.251))
    path = tmp_path / NOTES_NAME
    found = of_references(records, REFERENCES, all_ready(), read_notes(path))
    assert len(found) == 1
    assert NOTES_NAME in found[0].fix
    path.write_text("- {dataset: ETTm2, horizon: 192, metric: mse, note: our stack is causal and smaller}\n")
    assert of_references(records, REFERENCES, all_ready(), read_notes(path)) == []
    path.write_text("- {dataset: ETTm1, metric: mse, note: another set}\n")
    found = of_references(records, REFERENCES, all_ready(), read_notes(path))
    assert (len(_whats(found)), _whats(found, serious=False)) == (
        1,
        ["the note 'another set' is for no suspicious cell"],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {dataset: ETTm2}", "note 1 has no text"),
        ("- {dataset: ETTm2, modle: aaren, note: why}", "unknown field 'modle'"),
        ("- {profile: quick, note: everything is fine}", "would explain every cell"),
        ("note: why", "must be a list of notes"),
        ("- {dataset: [}", "not YAML"),
    ],
)
def test_bad_notes_are_refused_by_name(tmp_path, text, message):
    (tmp_path / NOTES_NAME).write_text(text)
    with pytest.raises(NotesError, match=message) as error:
        read_notes(tmp_path / NOTES_NAME)
    assert NOTES_NAME in str(error.value)


def test_a_rule_without_training_must_give_its_published_value(make_record):
    def rule(mse):
        return suspicious(
            [make_record(model="repeat_last", trivial=True, values={"mse": mse})], REFERENCES, all_ready()
        )

    assert rule(1.32494) == []
    assert [anomaly.model for anomaly in rule(1.3230)] == ["repeat_last"]


def test_only_accuracy_of_event_sets_is_held_against_others(make_record):
    records = [
        make_record(
            family="events", dataset="StackOverflow", label="StackOverflow-partial", variant="partial",
            model="transformer", seed=seed, values={"nll": -9.0, "rmse": 0.01, "accuracy": 0.6 + seed / 2000},
        )
        for seed in range(2)
    ]  # fmt: skip
    found = suspicious(records, REFERENCES, all_ready())
    assert [(anomaly.dataset, anomaly.metric) for anomaly in found] == [("StackOverflow-partial", "accuracy")]
    assert "60.0 is better than 45.4 of IFTPP, transformer" in found[0].what
