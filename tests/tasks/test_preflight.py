"""What a node is asked before a sweep, and what becomes of records from one that shares no disk with the driver."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest

from tasks import acquire, preflight
from tasks.errors import ConfigError, DatasetError
from tasks.gathering import Finished
from tasks.job import run_job
from tasks.launching import check_installed
from tasks.suite import records

SETS = ["JapaneseVowels", "ETTh1", "known/seasonal"]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What a driver asks that has ETTh1, of a node whose data root is empty."""
    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    return preflight.request(SETS, fetch=False) | {"here": SETS}


def test_a_node_without_the_data_says_what_mends_it(asked, tmp_path):
    found = preflight.inspect(asked, tmp_path / "runs", "cpu")
    (problem,) = found["problems"]
    assert problem.startswith("ETTh1: ")
    assert str(tmp_path / "nothing") in problem
    assert "set AAREN_DATA there" in problem
    assert "hydra.sweeper.fetch=true" in problem
    assert not list((tmp_path / "runs").iterdir()), "the probe stayed"


def test_what_the_driver_lacks_too_is_no_problem_of_the_node(asked, tmp_path):
    assert not preflight.inspect(asked | {"here": ["JapaneseVowels"]}, tmp_path, "cpu")["problems"]


def test_a_node_fetches_what_it_may(asked, tmp_path, monkeypatch):
    wanted = []
    monkeypatch.setattr(acquire, "get", wanted.append)
    found = preflight.inspect(asked | {"fetch": True}, tmp_path, "cpu")
    assert (wanted, found["fetched"], found["problems"]) == (["ETTh1"], ["ETTh1"], [])

    def no_network(name):
        raise DatasetError(name, "no mirror answers", "try again")

    monkeypatch.setattr(acquire, "get", no_network)
    (problem,) = preflight.inspect(asked | {"fetch": True}, tmp_path, "cpu")["problems"]
    assert "no mirror answers" in problem


def test_a_node_that_cannot_write_or_runs_other_code_says_so(asked, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    other = asked | {"datasets": [], "versions": asked["versions"] | {"torch": "1.0"}}
    unwritable, code = preflight.inspect(other, blocked / "runs", "cpu")["problems"]
    assert "cannot write" in unwritable
    assert "AAREN_RUNS" in unwritable
    assert "torch" in code
    assert "instead of 1.0" in code
    (gpu,) = preflight.inspect(asked | {"datasets": []}, tmp_path, "cuda")["problems"]
    assert "torch sees no GPU" in gpu


@pytest.mark.parametrize(("launcher", "extra"), [("submitit", "slurm"), ("ray", "ray"), ("joblib", "suite")])
def test_a_missing_plugin_is_named_with_its_extra(launcher, extra, monkeypatch):
    target = f"hydra_plugins.hydra_{launcher}_launcher.launcher.Launcher"
    check_installed(launcher, target)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        check_installed(launcher, target)
    assert f"hydra-{launcher}-launcher is not installed" in str(error.value)
    assert f"-e '.[suite,{extra}]'" in str(error.value)


@pytest.fixture
def rule(job):
    """A job without training, and its record."""
    cfg = job("dataset=JapaneseVowels", "model=majority")
    return cfg, run_job(cfg)


def test_a_returned_record_is_written_where_it_is_absent(rule, tmp_path, caplog):
    _, record = rule
    runs = tmp_path / "driver"
    path = runs / record["run_id"] / "record.json"
    Finished(runs, dict).keep(record)
    assert records.read(path)["metrics"] == record["metrics"]
    before = path.stat().st_mtime_ns
    failed = record | {"status": "failed", "reason": "it broke", "finished": "2999-01-01T00:00:00+00:00"}
    for other in (record, failed):
        Finished(runs, dict).keep(other)
        assert path.stat().st_mtime_ns == before, "a done record was replaced"
    records.write(failed, runs)
    Finished(runs, dict).keep(record)
    assert records.read(path)["status"] == "done", "a failed record stayed"
    path.write_text("{")
    Finished(runs, dict).keep(record)
    assert records.read(path)["status"] == "done", "a damaged record stayed"
    assert "replaced by what the worker returned" in caplog.text


def test_a_resumed_sweep_knows_what_is_done(rule, monkeypatch, tmp_path):
    cfg, record = rule
    runs, composed = Path(cfg["runs_dir"]), []

    def compose(overrides):
        composed.append(overrides)
        return copy.deepcopy(cfg) | ({"force": True} if "force=true" in overrides else {})

    def found(*jobs: list[str]) -> list[bool]:
        done = Finished(runs, compose).of(jobs)
        assert all(one is None or one["run_id"] == record["run_id"] for one in done)
        return [one is not None for one in done]

    assert found(["seed=0"], ["seed=1"], ["seed=2"]) == [True, False, False]
    assert len(composed) == 1, "seeds share a composition"
    assert found(["force=true"]) == [False]
    monkeypatch.setattr(
        "tasks.gathering.resolve", lambda *_: (_ for _ in ()).throw(DatasetError("x", "gone", "get it"))
    )
    assert found(["seed=0"], ["seed=1"]) == [True, False], "a driver without the data goes by the config"
    runs = tmp_path / "empty"
    assert found(["seed=0"]) == [False]


def put(record: dict, runs: Path, time_stamp: float) -> dict:
    """`record` in its place, with a file time of choice; returned as it stands there."""
    path = records.write(record, runs)
    os.utime(path, (time_stamp, time_stamp))
    return records.read(path)


FUTURE, PAST = 4e9, 1e9


def test_a_forced_job_is_done_by_a_new_record_whatever_its_file_time_says(rule):
    cfg, record = rule
    runs = Path(cfg["runs_dir"])
    put(record, runs, FUTURE)
    finished = Finished(runs, lambda _: copy.deepcopy(cfg) | {"force": True})
    assert finished.of([[]]) == [None], "a record of before the sweep, with a time behind its end"
    new = put(run_job(cfg | {"force": True}), runs, PAST)
    assert finished.of([[]]) == [new]


def test_a_sweep_that_begins_without_records_takes_any_for_new(rule, tmp_path):
    cfg, record = rule
    finished = Finished(tmp_path / "runs-of-its-own", lambda _: copy.deepcopy(cfg) | {"force": True})
    assert finished.of([[]]) == [None]
    new = put(record, finished.runs, PAST)
    assert finished.of([[]]) == [new]


def test_what_a_forced_job_returned_takes_the_place_of_the_old_record_whatever_the_clocks_say(rule, tmp_path):
    _, record = rule
    runs = tmp_path / "driver"
    put(record | {"finished": "2999-01-01T00:00:00+00:00"}, runs, FUTURE)
    finished = Finished(runs, dict)
    path = runs / record["run_id"] / "record.json"
    finished.keep(record)
    assert records.read(path)["finished"] == record["finished"], "the worker's clock is behind"
    finished.keep(record | {"finished": "2999-01-01T00:00:00+00:00"})
    assert records.read(path)["finished"] == record["finished"], "one of this sweep is here already"
