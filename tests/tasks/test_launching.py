"""Workers that die under a launcher: what they left undone is tried once more, and no other job's result is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from tasks import worker
from tasks.gathering import Finished
from tasks.launching import cause, launch
from tasks.suite.locks import RunBusy
from tasks.sweeper import JobSweeper

JOBS = [["seed=0"], ["seed=1"], ["seed=2"]]


class TerminatedWorkerError(Exception):
    """By the name that joblib gives it."""


class Pool(Launcher):
    """One pool of workers, which dies in each launch that is marked so."""

    __module__ = "hydra_plugins.fake.launcher"

    def __init__(self, *dies: bool) -> None:
        self.dies, self.launched = list(dies), []

    def setup(self, **_: Any) -> None:
        pass

    def launch(self, job_overrides: Any, initial_job_idx: int) -> list[JobReturn]:
        self.launched.append(job_overrides)
        if self.dies.pop(0):
            raise TerminatedWorkerError("a worker was killed\nand more")
        return [JobReturn(status=JobStatus.COMPLETED, _return_value={"job": job}) for job in job_overrides]


def launched_by_a_sweep(launcher: Pool, done: list[list[str]], tmp_path: Any) -> list[JobReturn]:
    sweeper: Any = JobSweeper()
    sweeper.jobs_launcher = launcher
    finished = Finished(tmp_path, dict)
    finished.of = lambda jobs: [{"job": job} if job in done else None for job in jobs]
    return sweeper._launch(JOBS, finished)


def test_what_dead_workers_left_is_launched_once_more(tmp_path):
    launcher = Pool(True, False)
    returned = launched_by_a_sweep(launcher, [JOBS[1]], tmp_path)
    assert launcher.launched == [JOBS, [JOBS[0], JOBS[2]]]
    assert [result.return_value["job"] for result in returned] == JOBS


def test_workers_that_die_twice_cost_only_what_is_not_done(tmp_path):
    returned = launched_by_a_sweep(Pool(True, True), [JOBS[1]], tmp_path)
    assert [result.status for result in returned] == [JobStatus.FAILED, JobStatus.COMPLETED, JobStatus.FAILED]
    assert "the workers died twice (a worker was killed)" in cause(returned[0])


def test_any_other_error_of_a_launcher_goes_up():
    class Broken(Pool):
        __module__ = "hydra_plugins.fake.launcher"

        def launch(self, job_overrides: Any, initial_job_idx: int) -> list[JobReturn]:
            raise KeyError("a mistake")

    with pytest.raises(KeyError):
        launch(Broken(), JOBS)


def test_a_swept_job_waits_for_the_process_that_is_at_it(monkeypatch, caplog):
    """As after a driver's death: its worker goes on, and the new sweep takes the record that it leaves."""
    answers: list[Any] = [RunBusy("it is being run by process 7"), RunBusy("still"), {"status": "done"}]
    asked = []

    def run_job(job: dict[str, Any], *, command: str) -> dict[str, Any]:
        asked.append(job["force"])
        answer = answers.pop(0)
        if isinstance(answer, RunBusy):
            raise answer
        return answer

    monkeypatch.setattr("tasks.job.run_job", run_job)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    assert worker._waiting({"force": True}, "as typed") == {"status": "done"}
    assert asked == [True, False, False], "what the other process ends with is not run again"
    assert caplog.text.count("waiting") == 1
