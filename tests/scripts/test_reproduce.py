"""`make reproduce`: plans what is missing, survives dead workers, and has nothing to do the second time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.errors import ConfigError, UnknownDataset
from tasks.requests import Wanted, requests
from tasks.suite import records
from tasks.suite.plan import plan
from tasks.sweeper import check_model

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
LONGER = "logger=none task.budget.max_steps=240 task.budget.eval_every=8"


def start(runs: Path, *arguments: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), "--profile", "smoke", "--runs", str(runs)]
    command += ["--dataset", "JapaneseVowels", "--jobs", "1", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed_ctrl_c, **options
    )


def heed_ctrl_c() -> None:
    """A shell's background jobs ignore SIGINT, and so would their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(runs: Path, *arguments: str) -> tuple[int, str]:
    process = start(runs, *arguments)
    output, _ = process.communicate(timeout=280)
    return process.returncode, output


def outcomes(runs: Path) -> dict[str, str]:
    found = records.read_all(runs)
    assert not found.problems
    return {r["run_id"]: json.dumps(records.outcome(r), sort_keys=True) for r in found.records}


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The multirun that a reproduce process started."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if "train.py" in " ".join(child.cmdline()):
                return child
        time.sleep(0.05)
    raise AssertionError("no multirun was started")


def wait_for_a_checkpoint(runs: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(runs.glob("*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline, "nothing was trained"
        time.sleep(0.02)


def test_a_first_run_trains_and_a_second_has_nothing_to_do(tmp_path):
    code, output = run(tmp_path, "--overrides", "logger=none")
    assert code == 0, output
    assert "3 jobs to run" in output
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/record.json")}
    assert len(first) == 3, "aaren, transformer and the majority rule"
    tables = {path: path.read_bytes() for path in (tmp_path / "tables").rglob("table4_classification.*")}
    assert {path.suffix for path in tables} == {".md", ".tex", ".csv", ".html"}
    code, output = run(tmp_path, "--overrides", "logger=none")
    assert code == 0, output
    assert "Nothing to run" in output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/record.json")} == first
    assert {path: path.read_bytes() for path in tables} == tables, "rebuilt tables differ"


@pytest.mark.parametrize("victim", ["worker", "reproduce"])
def test_killed_anywhere_and_started_again_ends_the_same(tmp_path, victim):
    code, output = run(tmp_path / "whole", "--overrides", LONGER)
    assert code == 0, output
    runs = tmp_path / "killed"
    process = start(runs, "--overrides", LONGER)
    worker = worker_of(process)
    wait_for_a_checkpoint(runs)
    if victim == "worker":
        worker.kill()
        output, _ = process.communicate(timeout=280)
        assert process.returncode == 1, "a job failed, and the exit code says so"
        assert "SIGKILL" in output
        statuses = [r["status"] for r in records.read_all(runs).records]
        assert sorted(statuses) == ["done", "done", "failed"], "the rest is launched again once"
    else:
        process.kill()
        process.communicate(timeout=60)
        worker.wait(timeout=60)  # it does not outlive the process that started it
    code, output = run(runs, "--overrides", LONGER)
    assert code == 0, output
    assert outcomes(runs) == outcomes(tmp_path / "whole")


def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = start(tmp_path, "--overrides", LONGER)
    worker_of(process)
    wait_for_a_checkpoint(tmp_path)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "run the same command again to go on" in output
    assert "Traceback" not in output


def test_a_plan_names_the_jobs_that_train_really_runs(tmp_path):
    """The plan composes a dataset once and puts models and seeds in; the ids must be those of real jobs."""
    from tasks.suite.identity import run_id

    wanted = Wanted(profile="smoke", seeds=2, datasets=("JapaneseVowels",), overrides=("task.optim.lr=0.002",))
    asked, broken = requests(wanted, CONF)
    assert not broken
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", "dataset=JapaneseVowels", "seed=0,1"]
    command += [
        "model=aaren,transformer",
        "profile=smoke",
        "task.optim.lr=0.002",
        "logger=none",
        f"runs_dir={tmp_path}",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    trained = {run_id(r.cfg, r.label, r.sha256) for r in asked if r.cfg["model"]["attention"] is not None}
    assert {r["run_id"] for r in records.read_all(tmp_path).records} == trained


def test_a_full_plan_has_every_dataset_and_refuses_what_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("AAREN_DATA", str(tmp_path))
    asked, broken = requests(Wanted(profile="paper", seeds=5), CONF)
    assert not broken
    planned = plan(asked, [], {})
    from tasks.overrides import options

    assert {job.dataset for job in planned.jobs} == set(options(CONF, "dataset"))
    pair = [job for job in planned.jobs if job.model in ("aaren", "transformer")]
    assert len(pair) == 2 * 5 * len(options(CONF, "dataset"))
    assert {job.dataset for job in planned.todo} >= {"JapaneseVowels", "extra/us-temperatures", "known/seasonal"}
    for job in planned.jobs:
        check_model(job.overrides, CONF)  # the sweep must take every job that was planned
    with pytest.raises(UnknownDataset, match="did you mean ETTh1"):
        requests(Wanted(datasets=("ETTh11",)), CONF)
    with pytest.raises(ConfigError, match="no such family"):
        requests(Wanted(families=("vision",)), CONF)
    with pytest.raises(ConfigError, match="no such model"):
        requests(Wanted(models=("aren",)), CONF)
    with pytest.raises(ConfigError, match="no such profile"):
        requests(Wanted(profile="quik"), CONF)


def test_a_set_with_published_folds_is_planned_fold_by_fold(monkeypatch):
    """MIMIC's five folds, once the real set is there; its synthetic twin has one."""
    from dataclasses import replace

    from tasks import requests as module

    twin, _ = requests(Wanted(datasets=("MIMIC",), models=("aaren",)), CONF)
    assert [request.cfg["fold"] for request in twin] == [None]
    monkeypatch.setattr(module, "verified", lambda found: replace(found, variant="official"))
    real, _ = requests(Wanted(datasets=("MIMIC",), models=("aaren",), seeds=2), CONF)
    assert sorted((r.cfg["seed"], r.cfg["fold"]) for r in real) == [(s, f) for s in range(2) for f in range(5)]
    assert all(f"fold={r.cfg['fold']}" in r.overrides for r in real)


def test_a_damaged_data_file_fails_before_any_training(tmp_path):
    data = tmp_path / "data" / "UEA" / "Handwriting"
    environment = os.environ | {"AAREN_DATA": str(tmp_path / "data")}
    place = subprocess.run(
        [sys.executable, "-c", "from tasks.data import *\nfrom tasks.suite.manifest import load_manifest\n"
         "print([f.path for f in load_manifest().datasets['Handwriting'].variants['official'].files][0])"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout.strip()  # fmt: skip
    data = tmp_path / "data" / place
    data.parent.mkdir(parents=True)
    data.write_text("<html>404</html>")
    other = data.with_name(data.name.replace("TRAIN", "TEST"))
    other.write_text("<html>404</html>")
    process = start(tmp_path / "runs", "--dataset", "Handwriting", "--overrides", "logger=none", env=environment)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1, output
    assert data.name in output
    assert "Traceback" not in output
    assert not list((tmp_path / "runs").glob("*/checkpoints"))
