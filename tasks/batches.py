"""Batches that depend on (seed, step) alone, so that a resumed run sees what an undisturbed one saw.

Lightning's "epoch" is here a *round*: the steps between two validations.  Step k of a job takes batch
k of the sequence that the family's epochs make one after another, whatever was run before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from tasks.distributed import my_share
from tasks.errors import ConfigError


class TaskData(lightning.LightningDataModule):
    """What a family's data gives: sizes of the splits, and the batch for any indices.

    Args:
        batch_size: items in a training batch.
        eval_batch_size: items in a validation or test batch; no metric depends on it.
        seed: the job's seed; orders the training items.

    Raises:
        ConfigError: a batch size below 1.
    """

    sizes: dict[str, int]

    def __init__(self, *, batch_size: int, eval_batch_size: int, seed: int) -> None:
        super().__init__()
        for option, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise ConfigError(f"task.data.{option}", size, "a batch needs at least one item")
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.steps_per_round = 0
        self.processes = 1  # that share each training batch

    def batch(self, split: str, indices: np.ndarray) -> Any:
        """The items at `indices` of a split, as tensors; a family makes it without a loop over items."""
        raise NotImplementedError(f"{type(self).__name__} must define batch(split, indices)")

    def train_batches(self, epoch: int) -> list[np.ndarray]:
        """The indices of each training batch of an epoch: every item once, in an order from (seed, epoch)."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.sizes["train"])
        return np.array_split(order, np.arange(self.batch_size, len(order), self.batch_size))

    def eval_batches(self, split: str) -> list[np.ndarray]:
        """The indices of each evaluation batch: every item once, in order, the last batch as small as it is."""
        order = np.arange(self.sizes[split])
        return np.array_split(order, np.arange(self.eval_batch_size, len(order), self.eval_batch_size))

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in one pass over the training items."""
        return len(self.train_batches(0))

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", RoundSampler(self))

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", self.eval_batches("val"))

    def test_dataloader(self) -> DataLoader:
        return self._loader("test", self.eval_batches("test"))

    def _loader(self, split: str, batches: Any) -> DataLoader:
        # The data fit in memory and a batch is one gather: worker processes would only copy it.
        return DataLoader(_Split(self, split), batch_size=None, sampler=batches, collate_fn=_as_it_is, num_workers=0)


class RoundSampler(Sampler[np.ndarray]):
    """The batches of one round; Lightning names the round through `set_epoch`, also after a resume."""

    def __init__(self, data: TaskData) -> None:
        self.data, self.round = data, 0
        self._epoch, self._first, self._batches = 0, 0, data.train_batches(0)

    def set_epoch(self, epoch: int) -> None:
        """Lightning's epoch is our round."""
        self.round = epoch

    def __len__(self) -> int:
        return self.data.steps_per_round

    def __iter__(self) -> Iterator[np.ndarray]:
        first = self.round * self.data.steps_per_round
        for step in range(first, first + self.data.steps_per_round):
            yield self._at(step)

    def _at(self, step: int) -> np.ndarray:
        if step < self._first:
            self._epoch, self._first, self._batches = 0, 0, self.data.train_batches(0)
        while step >= self._first + len(self._batches):
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = self.data.train_batches(self._epoch)
        return self._batches[step - self._first]


class _Split(Dataset):
    def __init__(self, data: TaskData, split: str) -> None:
        self.data, self.split = data, split

    def __getitem__(self, indices: np.ndarray) -> Any:
        if self.split == "train" and self.data.processes > 1:
            return my_share(indices, lambda mine: self.data.batch("train", mine))
        return self.data.batch(self.split, indices)


def _as_it_is(batch: Any) -> Any:
    return batch
