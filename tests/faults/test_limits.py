"""Training gone wrong: each job is recorded as failed with step, batch and cause; the sweep and its tables go on."""

from __future__ import annotations

import re
import signal
import time

import pytest
import torch

from tasks.classification.task import ClassificationTask
from tasks.errors import ConfigError
from tasks.job import run_job
from tasks.rl import environment
from tasks.rl.environment import EnvironmentFailed
from tasks.rl.surrogate import surrogate_file
from tasks.rl.task import RLTask
from tasks.suite import records
from tasks.suite.rebuild import rebuild
from tasks.task import TrainingDiverged
from tasks.timelimit import TimeLimitReached

# Two rounds of two steps: step 3 is batch 1 of the second round, with a checkpoint behind it.
STEP = 3


def infinite(loss):
    return loss * torch.inf


def exploding(loss):
    """Finite, with a gradient that is not: sqrt at 0."""
    return loss + (loss - loss.detach()).abs().sqrt()


def hang(loss=None):
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # the rest of the job's hour goes by
    while True:
        time.sleep(0.01)


def of_runs(folder) -> dict[int, dict]:
    found = records.read_all(folder)
    assert not found.problems
    return {record["seed"]: record for record in found.records}


def test_a_sweep_of_broken_jobs_goes_on_and_its_table_says_so(job, monkeypatch, tmp_path):
    def seeded(seed):
        return job("model=aaren", f"seed={seed}", "time_limit=3600")

    original = ClassificationTask.training_loss
    run_job(seeded(0))
    wrong = {
        1: (infinite, TrainingDiverged, r"training loss is inf at step 3 \(batch 1"),
        2: (exploding, TrainingDiverged, r"norm of the gradients is nan at step 3 \(batch 1"),
        3: (hang, TimeLimitReached, r"at training, step 3: it did not end within time_limit=3600 s"),
    }
    for seed, (change, error, _) in wrong.items():

        def changed(self, batch, change=change):
            loss = original(self, batch)
            return change(loss) if self.global_step == STEP else loss

        monkeypatch.setattr(ClassificationTask, "training_loss", changed)
        with pytest.raises(error):
            run_job(seeded(seed))
    monkeypatch.setattr(ClassificationTask, "training_loss", original)
    found = of_runs(tmp_path / "runs")
    for seed, (_, error, words) in wrong.items():
        record = found[seed]
        assert record["status"] == "failed"
        assert re.search(words, record["reason"]), record["reason"]
        told = (record["error"]["type"], record["error"]["step"], record["error"]["batch"])
        assert told == (error.__name__, STEP, 1)
        assert (tmp_path / "runs" / record["run_id"] / "checkpoints" / "last.ckpt").exists(), "the checkpoint is kept"
    assert "in hang" in found[3]["error"]["traceback"], "where it hung is in the record"
    rebuilt = rebuild([tmp_path / "runs"], tmp_path / "tables", profile="smoke")
    assert not rebuilt.problems
    (table,) = (tmp_path / "tables").rglob("table4_classification.md")
    assert "failed (3 of 4)" in table.read_text()
    assert run_job(seeded(3))["status"] == "done", "with the cause gone, the job goes on from its checkpoint"


def test_an_evaluation_that_hangs_says_that_it_was_evaluating(job, monkeypatch, tmp_path):
    monkeypatch.setattr(ClassificationTask, "update_metrics", lambda self, split, batch: hang())
    with pytest.raises(TimeLimitReached):
        run_job(job("time_limit=3600"))
    assert of_runs(tmp_path / "runs")[0]["reason"].startswith("at validation, step 2: it did not end within")


@pytest.mark.parametrize(
    ("fault", "words"),
    [("raises", "failed at step 1: RuntimeError: the simulator broke"), ("nan", "observation is not a finite number")],
)
def test_an_environment_that_breaks_fails_the_job_with_its_step(job, monkeypatch, tmp_path, fault, words):
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    surrogate_file("hopper-medium", 2000, 0)
    make, broken = environment.make_env, []

    def fragile(robot, render_mode=None):
        env = make(robot, render_mode)
        step = env.step

        def stepped(action):
            if broken and fault == "raises":
                raise RuntimeError("the simulator broke")
            observation, *rest = step(action)
            return (observation * float("nan") if broken else observation, *rest)

        env.step = stepped
        return env

    validate = RLTask.on_validation_start

    def break_in_the_second_round(self):
        validate(self)
        broken.extend([1] if self.global_step == 4 else [])

    monkeypatch.setattr(environment, "make_env", fragile)
    monkeypatch.setattr(RLTask, "on_validation_start", break_in_the_second_round)
    few = ("task.data.surrogate.steps=2000", "task.budget.max_steps=4", "task.budget.eval_every=2")
    with pytest.raises(EnvironmentFailed, match=words):
        run_job(job("dataset=hopper-medium", "model=aaren", *few))
    record = of_runs(tmp_path / "runs")[0]
    assert (record["status"], record["error"]["type"], record["error"]["step"]) == ("failed", "EnvironmentFailed", 4)
    assert words in record["reason"]
    assert (tmp_path / "runs" / record["run_id"] / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("limit", [0, -1, True, "soon", float("nan")])
def test_a_limit_that_is_none_is_refused(job, limit):
    with pytest.raises(ConfigError, match=r"time_limit=.*: give seconds, more than 0, or null"):
        run_job(job() | {"time_limit": limit})
