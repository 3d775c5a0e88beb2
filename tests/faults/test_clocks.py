"""A clock that jumps: durations are those of a monotonic clock, and nothing takes a record for stale by its time."""

from __future__ import annotations

import os
import time

from tasks.job import run_job
from tasks.suite import records
from tasks.suite.locks import Heartbeat, bury


def test_a_jump_of_the_clock_in_the_middle_changes_no_duration(job, monkeypatch):
    real, calls = time.time, []

    def jumping():
        calls.append(1)
        return real() + (36_000 if len(calls) % 2 else -36_000)

    monkeypatch.setattr(time, "time", jumping)
    began = time.monotonic()
    record = run_job(job("model=majority"))
    assert 0 < record["wall_seconds"] <= time.monotonic() - began
    assert record["cpu_seconds"] >= 0


def test_a_record_older_by_the_clock_than_the_last_heartbeat_is_kept(job, tmp_path):
    """The clock was set back between the two, and the job was killed before it took its heartbeat away."""
    record = run_job(job("model=majority"))
    path = tmp_path / "runs" / record["run_id"] / records.RECORD_NAME
    whole = path.read_bytes()
    path.unlink()
    Heartbeat(tmp_path / "runs", record | {"status": "failed", "reason": "did not finish"})
    path.write_bytes(whole)
    os.utime(path, (0, 0))
    assert bury(tmp_path / "runs") == []
    assert path.read_bytes() == whole


def test_an_older_record_from_the_future_does_not_hide_a_death(job, tmp_path):
    """The clock was ahead when an earlier attempt left its record, and is right again."""
    record = run_job(job("model=majority"))
    path = tmp_path / "runs" / record["run_id"] / records.RECORD_NAME
    os.utime(path, (4e9, 4e9))
    Heartbeat(tmp_path / "runs", record | {"status": "failed", "reason": "did not finish"})
    assert bury(tmp_path / "runs", "SIGKILL") == [record["run_id"]]
    assert records.read(path)["reason"].startswith("killed by SIGKILL after step 0")
