"""What hangs is ended: Python by an alarm, C code by a second process; and what launched it goes on with the rest."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from tasks import reproduce, timelimit
from tasks.suite import records
from tasks.suite.plan import Job, Plan
from tasks.timelimit import TimeLimitReached, time_limit


@pytest.fixture
def failed_record(job):
    """`failed_record(seed)`: what the heartbeat of a job holds."""

    def make(seed=0):
        facts = {"dataset": "JapaneseVowels", "label": "JapaneseVowels", "variant": "official"}
        return records.compose(job(f"seed={seed}"), **facts, status="failed", reason="did not finish")

    return make


def test_python_code_that_hangs_or_swallows_errors_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(timelimit, "AGAIN", 0.05)
    (tmp_path / "run").mkdir()

    def hang():
        while True:
            with contextlib.suppress(Exception):  # as a library might do around a call
                time.sleep(60)

    with pytest.raises(TimeLimitReached, match=r"within time_limit=0.2 s"), time_limit(0.2, tmp_path, "run"):
        hang()
    assert signal.getitimer(signal.ITIMER_REAL)[1] != 0.05, "the alarm goes on"
    assert not list((tmp_path / "run").iterdir())


def test_an_alarm_of_somebody_else_is_given_back(tmp_path):
    (tmp_path / "run").mkdir()
    heard = []
    handler = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.monotonic()
    try:
        with time_limit(60, tmp_path, "run"):
            pass
        while not heard and time.monotonic() < began + 30:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - began)))
    assert heard


HANG_IN_C = """
import ctypes, json, signal, sys
from pathlib import Path
from tasks import timelimit
from tasks.suite.locks import Heartbeat, RunLock
timelimit.GRACE = 0.4
record, runs = json.load(open(sys.argv[1])), Path(sys.argv[2])
with RunLock(runs, record["run_id"]):
    beat = Heartbeat(runs, record, every=0.0)
    with timelimit.time_limit(0.2, runs, record["run_id"]):
        beat.beat(17, 40)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        ctypes.PyDLL(None).pause()  # holds the interpreter's lock: no thread of Python's runs either
"""


def test_c_code_that_hangs_is_killed_and_recorded_with_where_it_was(failed_record, tmp_path):
    record = failed_record()
    (tmp_path / "record.json").write_text(json.dumps(record))
    command = [sys.executable, "-c", HANG_IN_C, str(tmp_path / "record.json"), str(tmp_path / "runs")]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    path = tmp_path / "runs" / record["run_id"] / "record.json"
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    left = records.read(path)
    assert (left["status"], left["error"]["type"], left["error"]["step"]) == ("failed", "TimeLimitReached", 17)
    assert "within time_limit=0.2 s and was killed" in left["reason"]
    assert "after step 17 of 40" in left["reason"]
    assert 'File "<string>", line 13' in left["error"]["traceback"]


MULTIRUN = """
import json, os, signal, sys
from pathlib import Path
from tasks.suite.locks import Heartbeat, RunLock
from tasks.suite.records import write
options = dict(part.split("=", 1) for part in sys.argv[1:] if "=" in part)
runs = Path(options["runs_dir"])
for name, mode in json.load(open(options["hydra.sweeper.jobs"])):
    record = json.loads((runs / ".given" / f"{name}.json").read_text())
    with RunLock(runs, name):
        beat = Heartbeat(runs, record, every=0.0)
        beat.beat(3, 4)
        if mode == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        write(record, runs)
        beat.stop()
sys.exit(1 if mode == "dies" else 0)
"""


def test_every_death_is_recorded_and_the_rest_is_launched_again(failed_record, tmp_path, monkeypatch):
    """Three of five jobs take the multirun down with them; with a clock that jumps back an hour at every look."""
    hours = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 2e9 - 3600 * next(hours))
    runs = tmp_path / "runs"
    (runs / ".given").mkdir(parents=True)
    modes = ("dies", "ends", "dies", "dies", "ends")
    jobs = []
    for seed, mode in enumerate(modes):
        record = failed_record(seed)
        (runs / ".given" / f"{record['run_id']}.json").write_text(json.dumps(record))
        name = record["run_id"]
        facts = ("JapaneseVowels", "JapaneseVowels", "classification", "aaren", seed, None, "missing", 1.0)
        jobs.append(Job((name, mode), name, *facts))
    train = tmp_path / "train.py"
    train.write_text(MULTIRUN)
    said = Console(file=io.StringIO(), width=200)
    found = reproduce.run_plan(Plan(tuple(jobs)), train=train, runs=runs, workers=1, extra=(), console=said)
    reasons = [found[job.run_id]["reason"] for job in jobs]
    assert [reason.startswith("killed by SIGKILL after step 3 of 4") for reason in reasons] == [
        mode == "dies" for mode in modes
    ]
    assert os.environ.get("AAREN_REPRODUCER") is None
