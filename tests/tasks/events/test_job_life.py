"""Both models through the job that users start: every parameter learns, eight sequences by heart."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.events import build_task
from tasks.events.task import EventTask
from tasks.job import run_job
from tasks.training import Budget, train_and_score

MODELS = ("aaren", "transformer")
KNOWN = ("dataset=known/hawkes-marked", "task.data.n_sequences=60")


@pytest.mark.parametrize("protocol", ["honest", "paper_compat"])
@pytest.mark.parametrize("model", MODELS)
def test_one_step_of_a_job_moves_every_parameter(job, monkeypatch, model, protocol):
    """No key bias here, whose gradient would be zero: the base encoder's projections have none."""
    gradients = {}

    def look(self, optimizer):
        gradients.update({name: p.grad for name, p in self.named_parameters()})
        assert not any(name.endswith("w_k.bias") for name in gradients)

    monkeypatch.setattr(EventTask, "on_before_optimizer_step", look)
    overrides = [*KNOWN, f"model={model}", f"protocol={protocol}", "task.budget.max_steps=1", "task.model.dropout=0.0"]
    assert run_job(job(*overrides))["status"] == "done"
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("model", MODELS)
def test_eight_sequences_are_learnt_by_heart_in_the_training_loop(make_data, make_sequences, tmp_path, model):
    """Gaps and marks at random: no rule to find, only these eight sequences to remember."""
    rng = np.random.default_rng(0)
    times = [np.cumsum(rng.lognormal(0, 1.5, 9)) for _ in range(14)]
    sequences = make_sequences(times, [rng.integers(0, 6, 9) for _ in times], n_marks=6)
    data = make_data(sequences)
    assert data.sizes["train"] == 8
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 1, "d_ff": 64, "dropout": 0.0, "gap_input": True}
    optim = {"name": "adam", "lr": 8e-3, "weight_decay": 0.0, "clip": 1.0, "warmup_steps": 0, "schedule": "constant"}
    cfg = {
        "model": {"name": model, "attention": model},
        "task": {"model": sizes, "optim": optim},
        "seed": 0,
        "protocol": "honest",
    }
    task = build_task(cfg, data)
    assert isinstance(task, EventTask)
    everything = data.batch("train", np.arange(8))
    before = float(task.training_loss(everything).detach())
    train_and_score(task, data, budget=Budget(rounds=2, steps_per_round=80, patience=None), folder=tmp_path)
    after = task.history[-1]["train/loss"]  # the mean of the last 80 steps
    assert before > 3  # static law and six marks alike: about 1.8 for each
    assert after < before - 3
