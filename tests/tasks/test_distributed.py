"""Several processes that share each batch: the numbers of one, whatever the family's loss is the mean of."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tasks.data import resolve, verified
from tasks.distributed import check_devices, share_of
from tasks.errors import ConfigError
from tasks.job import load, run_job
from tasks.rl.task import RLTask
from tasks.rl.windows import Windows
from tasks.suite import records

SAME = 1e-5


def test_two_processes_end_where_one_does(job):
    """13 cases a batch: unequal shares, and with 270 in all a last batch of ten."""
    cfg = job("dataset=JapaneseVowels", "task.model.dropout=0.0", "task.data.batch_size=13", "threads=1")
    one = run_job(cfg)
    two = run_job(cfg | {"devices": 2, "runs_dir": cfg["runs_dir"] + "-two"})
    assert two["run_id"] == one["run_id"]
    (path,) = Path(cfg["runs_dir"] + "-two").glob("*/record.json")
    assert records.read(path)["status"] == "done"
    for split, measures in one["metrics"].items():
        for name, measure in measures.items():
            other = two["metrics"][split][name]
            assert other["n"] == measure["n"], "an item was scored twice, or not at all"
            assert other["value"] == pytest.approx(measure["value"], abs=SAME, rel=SAME), (split, name)
    for row, other in zip(one["artefacts"]["history"], two["artefacts"]["history"], strict=True):
        assert other == pytest.approx(row, abs=SAME, rel=SAME), "a loss of the whole batch, not of one share"


def test_a_share_is_never_empty_and_shares_hold_every_index_once():
    for size in range(1, 9):
        indices = np.arange(size)
        shares = [share_of(indices, rank, 3) for rank in range(3)]
        assert all(len(mine) for mine, _ in shares)
        assert sorted(np.concatenate([mine for mine, counted in shares if counted])) == list(indices)


@pytest.mark.parametrize("dataset", ["JapaneseVowels", "known/seasonal", "known/hawkes"])
def test_the_loss_of_a_batch_is_that_of_its_shares(job, dataset):
    cfg = job(f"dataset={dataset}", "task.model.dropout=0.0")
    from tasks.jobconfig import prepare

    data, task = load(prepare(cfg), verified(resolve(dataset)))
    assert task.divisible
    indices = data.train_batches(0)[0][:7]
    parts = [data.batch("train", share_of(indices, rank, 2)[0]) for rank in range(2)]
    whole = data.batch("train", indices)
    check(task, whole, parts)


def test_the_loss_of_windows_is_that_of_their_shares():
    generator = torch.Generator().manual_seed(0)
    actions, predicted = (torch.randn(5, 4, 3, generator=generator) for _ in range(2))
    valid = torch.arange(4)[None] < torch.tensor([1, 4, 2, 4, 3])[:, None]

    def windows(rows: slice) -> Windows:
        states = predicted[rows]
        return Windows(states[..., :1], states, actions[rows], torch.zeros(len(states), 4).long(), valid[rows])

    task: Any = SimpleNamespace(model=lambda batch: batch.states)
    task.training_loss = lambda batch: RLTask.training_loss(task, batch)
    task.loss_terms = lambda batch: RLTask.loss_terms(task, batch)
    check(task, windows(slice(None)), [windows(slice(0, None, 2)), windows(slice(1, None, 2))])


def check(task: Any, whole: Any, parts: list[Any]) -> None:
    with torch.no_grad():
        losses = torch.stack([task.training_loss(part).double() for part in parts])
        expected = float(task.training_loss(whole))
    terms = [task.loss_terms(part) for part in parts]
    if terms[0] is None:
        assert float(losses.sum()) == pytest.approx(expected, rel=SAME)
    else:
        weights = torch.stack([count.double() for count in terms])
        assert float((losses * weights).sum() / weights.sum()) == pytest.approx(expected, rel=SAME)


def test_what_cannot_be_shared_is_refused(job):
    assert check_devices(2, "cpu", True, "any") == 2
    for wrong in (0, True, "2"):
        with pytest.raises(ConfigError, match="devices"):
            check_devices(wrong, "cpu", True, "any")
    cfg = copy.deepcopy(job("dataset=Sin", "protocol=paper_compat")) | {"devices": 2}
    with pytest.raises(ConfigError, match="devices=2: the loss of BaseEventTask"):
        run_job(cfg)
