"""Truth tests (protocol, section 6.2): near the truth after training, never past it, and a leak is caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.events import build_task
from tasks.events.batch import EventBatch
from tasks.events.model import EventModel
from tasks.events.scores import Scores
from tasks.events.scoring import score_model
from tasks.events.simulate import generate, process

SIZES = {"d_model": 32, "n_layers": 1, "n_heads": 1, "d_ff": 32, "dropout": 0.0, "components": 4, "gap_input": True}


def _train(data, attention, steps):
    cfg = {
        "model": {"name": attention, "attention": attention},
        "task": {"model": SIZES, "optim": {"name": "adam", "lr": 5e-3}},
        "seed": 0,
        "protocol": "honest",
    }
    torch.manual_seed(0)
    task = build_task(cfg, data)
    optimiser = torch.optim.Adam(task.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    batches = [rows for epoch in range(steps) for rows in data.train_batches(epoch)][:steps]
    for rows in batches:
        optimiser.zero_grad()
        task.training_loss(data.batch("train", rows)).backward()
        optimiser.step()
        schedule.step()
    return task.eval()


def _measures(task, data):
    with torch.no_grad():
        for rows in data.eval_batches("test"):
            task.update_metrics("test", data.batch("test", rows))
    return {name: m.value for name, m in task.compute_metrics("test").items()}


def _set(name, make_data, n):
    return make_data(generate(name, 7, n), process=process(name), batch_size=32, eval_batch_size=64)


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
@pytest.mark.parametrize(
    ("name", "steps", "bound", "closed"),
    [("poisson", 40, 0.03, None), ("sin-poisson", 280, 0.1, 0.55), ("hawkes", 100, 0.06, 0.5)],
)
def test_models_come_near_the_truth_and_never_beat_it(make_data, name, steps, bound, closed, attention):
    data = _set(name, make_data, 200)
    found = _measures(_train(data, attention, steps), data)
    assert found["excess_nll"] > -3 * found["excess_nll_se"]
    assert found["excess_nll"] < bound
    if closed:
        static = _measures(build_task({**_rule(), "seed": 0, "protocol": "honest"}, data), data)["excess_nll"]
        assert 1 - found["excess_nll"] / static > closed


def _rule():
    return {"model": {"name": "static_lognormal", "attention": None}, "task": {"optim": {"name": "adam", "lr": 1e-3}}}


class _Leaking(EventModel):
    """Sees the time of the event that it is to predict: every output is read one event too late."""

    def forward(self, times, marks, valid):
        return torch.roll(super().forward(times, marks, valid), -1, dims=1)


def test_a_leak_is_caught(make_data):
    data = _set("poisson", make_data, 200)
    task = _train(data, "aaren", 1)
    task.model.__class__ = _Leaking
    optimiser = torch.optim.Adam(task.parameters(), lr=5e-3)
    for epoch in range(20):
        for rows in data.train_batches(epoch):
            optimiser.zero_grad()
            task.training_loss(data.batch("train", rows)).backward()
            optimiser.step()
    found = _measures(task.eval(), data)
    assert found["excess_nll"] < -3 * found["excess_nll_se"]  # the comparison that honest models pass
    assert found["excess_nll"] < -0.5


def test_a_model_that_knows_the_answer_less_a_bit_is_scored_so(make_data):
    """The paired standard error is that of the difference: a law wrong by a known factor shows at once."""
    data = _set("poisson", make_data, 100)
    scores = Scores("1", data.true_log_likelihood("test"))
    rate = 1.3
    for rows in data.eval_batches("test"):
        batch: EventBatch = data.batch("test", rows)
        scored = score_model(_train(data, "aaren", 1).model, batch)
        scores.add(batch, scored._replace(log_prob=np.log(rate) - rate * batch.gap))
    found = scores.measures()
    expected = rate - 1 - np.log(rate)  # the divergence of two exponential laws
    assert abs(found["excess_nll"].value - expected) < 4 * found["excess_nll_se"].value
    assert found["excess_nll_se"].value < 0.02
