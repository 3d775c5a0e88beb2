"""Two processes at one job, and what a dead one leaves: one wins by the lock, the other says so; nothing is stale."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

from tasks.classification.task import ClassificationTask
from tasks.job import run_job
from tasks.suite import records
from tasks.suite.locks import LOCK_NAME, OWNER_NAME, RunBusy, bury


def attempt(cfg, gate, said):
    """Run the job when the gate opens; say how it went."""
    gate.wait(120)
    try:
        said.put(("done", os.getpid(), run_job(cfg)["finished"]))
    except RunBusy as error:
        said.put(("busy", os.getpid(), str(error)))


def test_of_two_processes_one_wins_and_the_other_names_it(job, tmp_path, monkeypatch):
    original = ClassificationTask.training_loss

    def slow(self, batch):
        while self.global_step == 1 and not list(tmp_path.glob("loser")):
            time.sleep(0.01)  # until the other has seen the lock
        return original(self, batch)

    monkeypatch.setattr(ClassificationTask, "training_loss", slow)
    context = multiprocessing.get_context("fork")
    gate, said = context.Barrier(2), context.Queue()
    pair = [context.Process(target=attempt, args=(job(), gate, said)) for _ in range(2)]
    for process in pair:
        process.start()
    loser = said.get(timeout=120)
    (tmp_path / "loser").touch()
    winner = said.get(timeout=120)
    for process in pair:
        process.join()
    assert (loser[0], winner[0]) == ("busy", "done")
    assert f"process {winner[1]} on " in loser[2]
    assert len(records.read_all(tmp_path / "runs").records) == 1


def never_done(cfg):
    """The job, which stops in the middle without a word."""

    def stuck(self, batch):
        while True:
            time.sleep(1)

    ClassificationTask.training_loss = stuck  # this process is ours alone
    run_job(cfg)


def test_the_lock_of_a_killed_process_is_no_obstacle_whatever_it_says(job, tmp_path):
    """Its lock file, its owner's name (now this very process's number) and its heartbeat are all still there."""
    process = multiprocessing.get_context("fork").Process(target=never_done, args=(job(),))
    process.start()
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("running.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder,) = Path(tmp_path / "runs").glob("classification-*")
    assert (folder / LOCK_NAME).exists()
    (folder / OWNER_NAME).write_text(json.dumps({"pid": os.getpid(), "host": "elsewhere"}))
    os.utime(folder / LOCK_NAME, (4e9, 4e9))
    record = run_job(job())
    assert (record["status"], record["run_id"]) == ("done", folder.name)
    assert bury(tmp_path / "runs") == []
