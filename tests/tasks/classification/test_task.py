"""Scores over every case whatever the batch size, the selection rule, the curve, training, and the entry points."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.classification import build_task, load_data
from tasks.classification.data import ClassificationData
from tasks.classification.task import FRACTIONS
from tasks.errors import ConfigError

MODEL = {
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "d_ff": 32,
    "dropout": 0.1,
    "activation": "gelu",
    "norm": "post",
    "embedding_kernel": 3,
}
OPTIM = {"name": "radam", "lr": 1e-3, "clip": 4.0, "schedule": "constant"}


def config(name="aaren", *, protocol="honest", **changes):
    attention = None if name in ("majority", "repeat_last") else name
    return {
        "task": {"model": MODEL, "optim": OPTIM, "data": {"batch_size": 8, "eval_batch_size": 16}},
        "model": {"name": name, "attention": attention},
        "seed": 0,
        "protocol": protocol,
        "horizon": None,
        "fold": None,
        **changes,
    }


def data_of(arrays, *, eval_batch_size=16, protocol="honest", batch_size=8):
    return ClassificationData(arrays, protocol=protocol, batch_size=batch_size, eval_batch_size=eval_batch_size, seed=0)


def task_of(data, name="aaren", **changes):
    torch.manual_seed(0)
    return build_task(config(name, protocol=data.protocol, **changes), data)


@torch.no_grad()
def score(task, data, split):
    task.eval()
    for indices in data.eval_batches(split):
        task.update_metrics(split, data.batch(split, indices))
    return task.compute_metrics(split)


def fit(task, data, steps):
    task.train()
    optimiser = task.configure_optimizers()["optimizer"]
    done, losses = 0, []
    while done < steps:
        for indices in data.train_batches(done):
            loss = task.training_loss(data.batch("train", indices))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), OPTIM["clip"])
            optimiser.step()
            losses.append(float(loss.detach()))
            done += 1
    return losses


@pytest.mark.parametrize("name", ["aaren", "transformer", "majority"])
def test_metrics_do_not_depend_on_the_evaluation_batch_size(name, toy):
    expected = None
    for size in (1, 7, 32, 1000):
        data = data_of(toy, eval_batch_size=size)
        task = task_of(data, name)
        found = {split: score(task, data, split) for split in ("val", "test")}
        found["curve"] = task.artefacts(data)["accuracy_by_fraction_seen"]["accuracy"]
        expected = found if expected is None else expected
        assert found["curve"] == expected["curve"]
        for split in ("val", "test"):
            assert found[split]["accuracy"].n == data.sizes[split]
            for key, measure in found[split].items():
                assert measure.value == pytest.approx(expected[split][key].value, abs=1e-6)


def test_metrics_are_those_of_the_whole_split_computed_at_once(toy):
    data = data_of(toy, eval_batch_size=7)
    task = task_of(data).eval()
    found, n = score(task, data, "val"), data.sizes["val"]
    batch = data.batch("val", np.arange(n))
    logits = task.network(batch.x, batch.lengths).detach().double()
    chance = logits.softmax(1)[torch.arange(n), batch.labels]
    correct = int((logits.argmax(1) == batch.labels).sum())
    assert found["accuracy"].value == correct / n
    assert found["cross_entropy"].value == pytest.approx(float(-chance.log().mean()), abs=1e-6)
    assert found["selection_score"].value == pytest.approx(correct + math.exp(-found["cross_entropy"].value))
    assert score(task, data, "val") == found  # computing resets the sums
    assert set(score(task, data, "test")) == {"accuracy", "cross_entropy"}  # nothing is selected on TEST


class Fixed(torch.nn.Module):
    """Answers with given logits, to put the selection rule to the test."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x, lengths):
        return self.logits


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ([2.0, 2.0, -0.1, -0.1], [0.1, 0.1, 0.1, -9.0]),  # three right beat two, whatever their loss
        ([1.0, 1.0, -1.0, -1.0], [2.0, 2.0, -0.5, -0.5]),  # the same accuracy: the lower loss wins
        ([30.0, 30.0, 30.0, -0.01], [0.01] * 4),  # all right at chance-level loss beats three right for certain
        ([1.0] * 4, [8.0] * 4),
    ],
)
def test_selection_is_accuracy_then_cross_entropy(worse, better, toy):
    scores = []
    for margins in (worse, better):
        data = data_of(toy)
        task = task_of(data)
        batch = data.batch("val", np.arange(4))
        logits = torch.zeros(4, 4)
        logits[torch.arange(4), batch.labels] = torch.tensor(margins)
        # A wrong answer: another class stands just above the right one.
        logits[torch.arange(4), (batch.labels + 1) % 4] -= 0.001
        task.network = Fixed(logits)
        task.update_metrics("val", batch)
        scores.append(task.compute_metrics("val"))
    assert scores[0]["selection_score"].value < scores[1]["selection_score"].value
    assert task.selection[:3] == ("val", "selection_score", "max")
    assert "cross-entropy" in task.selection.note


@pytest.mark.parametrize("name", ["aaren", "transformer"])
def test_overfits_eight_samples(name, make_toy):
    arrays = make_toy(train=10, test=4, classes=2)
    # A fifth goes to validation; labels without any pattern, so that only memory helps.
    arrays["train_labels"] = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 0])
    data = data_of(arrays)
    assert data.sizes["train"] == 8
    changes = {"model": {**MODEL, "dropout": 0.0}, "optim": {**OPTIM, "lr": 1e-2}}
    task = task_of(data, name, task={**config()["task"], **changes})
    assert fit(task, data, 100)[-1] < 0.01


def test_learns_the_toy_set_and_its_curve_rises(toy):
    data = data_of(toy)
    task = task_of(data)
    fit(task, data, 200)
    scores = score(task, data, "test")
    assert scores["accuracy"].value > 0.8
    curve = task.artefacts(data)["accuracy_by_fraction_seen"]
    assert curve["fraction"] == list(FRACTIONS)
    assert curve["n"] == 23
    assert curve["accuracy"][-1] == scores["accuracy"].value
    assert curve["accuracy"][0] < curve["accuracy"][-1]


def test_curve_equals_cutting_each_series(toy):
    data = data_of(toy)
    task = task_of(data)
    fit(task, data, 40)
    curve = task.artefacts(data)["accuracy_by_fraction_seen"]["accuracy"]
    batch = data.batch("test", np.arange(23))
    for fraction, accuracy in zip(FRACTIONS, curve, strict=True):
        lengths = (batch.lengths * fraction).round().long().clamp(min=1)
        answers = task.network(batch.x, lengths).argmax(1)
        assert accuracy == float((answers == batch.labels).double().mean())


def test_stream_of_a_task_answers_like_the_task(toy):
    data = data_of(toy)
    task = task_of(data).eval()
    batch = data.batch("test", np.arange(6))
    stream = task.stream(6)
    for t in range(batch.x.shape[1]):
        logits = stream.step(batch.x[:, t], valid_t=t < batch.lengths)
    assert torch.allclose(logits, task.network(batch.x, batch.lengths), atol=3e-6)
    with pytest.raises(ValueError, match="nothing to stream"):
        task_of(data, "majority").stream()


def test_majority_needs_no_training(toy):
    data = data_of(toy)
    task = task_of(data, "majority")
    assert not list(task.parameters())
    share = np.bincount(toy["test_labels"], minlength=4)[int(data.class_counts.argmax())] / 23
    assert score(task, data, "test")["accuracy"].value == share


def test_paper_compat_says_what_its_validation_is(toy):
    honest, compat = (task_of(data_of(toy, protocol=protocol)) for protocol in ("honest", "paper_compat"))
    assert "fifth of TRAIN" in honest.selection.note
    assert "TEST" in compat.selection.note


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("repeat_last", {}, "only trivial model is majority"),
        ("aaaren", {}, "aaaren"),
        ("aaren", {"task": {**config()["task"], "model": {**MODEL, "n_heads": 3}}}, "n_heads=3|heads"),
        ("aaren", {"task": {**config()["task"], "model": {**MODEL, "embedding_kernel": 0}}}, "embedding_kernel=0"),
        ("aaren", {"task": {**config()["task"], "model": {**MODEL, "dropout": 1.5}}}, "dropout"),
    ],
)
def test_impossible_models_are_config_errors(name, changes, reason, toy):
    with pytest.raises(ConfigError, match=reason):
        task_of(data_of(toy), name, **changes)


def test_load_data_parses_once_and_refuses_other_families_options(resolved_set, ts, facts, tmp_path, monkeypatch):
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    texts = [ts([rng.normal(size=(4, 2)) for _ in range(n)], ["a", "b"] * (n // 2), ["a", "b"]) for n in (10, 4)]
    resolved = resolved_set(*texts, facts(10, 4, 2, 2))
    resolved = replace(resolved, entries={role: _warn(role) for role in ("train", "test")})
    first, second = (load_data(config(), resolved) for _ in range(2))
    assert first.sizes == second.sizes == {"train": 8, "val": 2, "test": 4}
    for option in ("horizon", "fold"):
        with pytest.raises(ConfigError, match=f"{option}=1"):
            load_data(config(**{option: 1}), resolved)


def _warn(role):
    from tasks.suite.manifest import FileEntry

    return FileEntry(role, "ts", f"{role}.ts", check="warn")
