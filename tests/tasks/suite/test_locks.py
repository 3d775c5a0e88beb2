"""One process a run; a dead one is no obstacle and leaves a record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tasks.suite.atomic import WriteError
from tasks.suite.locks import Heartbeat, RunBusy, RunLock, bury, progress
from tasks.suite.records import read_all, write

WORKER = """
import json, sys
from pathlib import Path
from tasks.suite.locks import Heartbeat, RunLock
record, runs = json.load(open(sys.argv[1])), Path(sys.argv[2])
with RunLock(runs, record["run_id"]):
    beat = Heartbeat(runs, record, every=0.0)
    beat.beat(17, 40)
    print("running", flush=True)
    sys.stdin.readline()
    beat.stop()
"""


@pytest.fixture
def worker(make_record, tmp_path):
    """A process that holds the lock of a run at step 17 of 40."""
    record = make_record(status="failed", reason="did not finish")
    (tmp_path / "record.json").write_text(json.dumps(record))
    command = [sys.executable, "-c", WORKER, str(tmp_path / "record.json"), str(tmp_path / "runs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process, record["run_id"], tmp_path / "runs"
        process.kill()


def test_the_second_process_is_told_who_has_it(worker):
    process, name, runs = worker
    with pytest.raises(RunBusy, match=rf"{name} is being run by process {process.pid} on {os.uname().nodename}"):
        RunLock(runs, name).__enter__()
    assert [(job.run_id, job.step, job.total, job.alive) for job in progress(runs)] == [(name, 17, 40, True)]
    assert bury(runs) == []  # a living job is not buried
    process.communicate("\n", timeout=20)
    with RunLock(runs, name):
        assert progress(runs) == []


def test_a_killed_process_frees_the_lock_and_gets_a_record(worker):
    process, name, runs = worker
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    assert [job.alive for job in progress(runs)] == [False]
    assert bury(runs, "SIGKILL") == [name]
    records, problems = read_all(runs)
    assert problems == []
    assert records[0]["status"] == "failed"
    assert records[0]["reason"] == "killed by SIGKILL after step 17 of 40"
    assert (records[0]["error"]["step"], records[0]["error"]["signal"]) == (17, "SIGKILL")
    assert bury(runs) == []
    with RunLock(runs, name):  # the lock file is still there, its owner is not
        assert (runs / name / ".lock").exists()


def test_a_job_killed_after_its_record_keeps_it(make_record, tmp_path):
    record = make_record(values={"mse": 0.25})
    Heartbeat(tmp_path, make_record(status="failed", reason="did not finish"))
    path = write(record, tmp_path)
    assert bury(tmp_path) == []
    assert json.loads(path.read_text())["status"] == "done"
    assert progress(tmp_path) == []


def test_two_locks_in_one_process(tmp_path):
    with (
        RunLock(tmp_path, "run-a"),
        RunLock(tmp_path, "run-b"),
        pytest.raises(RunBusy, match=f"process {os.getpid()}"),
    ):
        RunLock(tmp_path, "run-a").__enter__()
    with RunLock(tmp_path, "run-a"):
        pass


def test_a_results_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(WriteError, match="cannot write"):
        RunLock(tmp_path / "runs", "run").__enter__()


def test_a_beat_between_two_writes_costs_nothing(make_record, tmp_path):
    record = make_record(status="failed", reason="did not finish")
    beat = Heartbeat(tmp_path, record, every=3600)
    path = tmp_path / record["run_id"] / "running.json"
    first = path.read_bytes()
    for step in range(1000):
        beat.beat(step, 1000)
    assert path.read_bytes() == first
    beat.stop()
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_marker_is_no_job(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "running.json").write_text(content)
    assert progress(tmp_path) == []
    assert bury(tmp_path) == []
