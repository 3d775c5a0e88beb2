"""Event data of a job: parsed and checked, in its unit, ties settled, split, batched by length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.batches import TaskData
from tasks.data import Resolved
from tasks.errors import ConfigError, DatasetError
from tasks.events.batch import EventBatch, make_batch, origins
from tasks.events.processes import Process
from tasks.events.readers import check_facts, read_npz, read_parquet
from tasks.events.sequences import SECONDS, SPLITS, EventSequences, resolve_ties
from tasks.events.simulate import log_likelihood
from tasks.events.statistics import GapStatistics, gap_statistics

PARSE_VERSION = 1  # of the arrays that `parse` makes; a new number makes the cache parse again
SPLIT_RULES = ("published", "rows", "shuffle")
TIE_RULES = ("refuse", "merge", "jitter")
ORIGINS = ("window", "first")
FRACTIONS = (0.6, 0.2)  # of train and val; the rest is test
MOST_PADDING = 0.15  # of the tokens of a batch
LENGTH_NOISE = 0.1  # lengths are perturbed by up to this share before sorting, so that batches differ by epoch


def parse(resolved: Resolved) -> dict[str, np.ndarray]:
    """Read the verified file of a set and hold it against the manifest. Raises DatasetError."""
    path = resolved.files["events"]
    arrays = read_parquet(path).to_arrays() if path.suffix == ".parquet" else read_npz(path)
    check_facts(EventSequences.from_arrays(arrays), resolved.entry.shape, resolved.entry.statistics, path)
    return arrays


def split_rows(
    sequences: EventSequences,
    rule: str,
    *,
    seed: int,
    val_fraction: float,
    folds: np.ndarray | None = None,
    fold: int | None = None,
) -> dict[str, np.ndarray]:
    """The sequences of each split, disjoint and together all.

    `published` keeps the file's split (`fold` counts from 0, the published fold 1 is 0) and, where it names no
    validation part, draws a seeded `val_fraction` of train; `rows` cuts 60/20/20 in row order; `shuffle` after a seeded
    shuffle.
    """
    everything = np.arange(sequences.n_sequences)
    if folds is not None:
        chosen = 0 if fold is None else fold
        if not 0 <= chosen < len(folds):
            raise ConfigError("fold", fold, f"this set has folds 0 to {len(folds) - 1}")
        label = folds[chosen]
    elif fold is not None:
        raise ConfigError("fold", fold, "this set has no folds; leave it null")
    elif rule == "published":
        label = sequences.split
        if (label < 0).any():
            raise ConfigError("task.data.split", rule, "the file has no published split; use rows or shuffle")
    else:
        order = everything if rule == "rows" else np.random.default_rng(seed).permutation(everything)
        first, second = (int(f * len(order)) for f in (FRACTIONS[0], sum(FRACTIONS)))
        label = np.empty(len(order), np.int8)
        label[order[:first]], label[order[first:second]], label[order[second:]] = 0, 1, 2
    parts = {name: np.flatnonzero(label == code) for code, name in enumerate(SPLITS)}
    if not len(parts["val"]) and 0 < val_fraction < 1:
        order = np.random.default_rng(seed).permutation(parts["train"])
        cut = max(1, int(val_fraction * len(order)))
        parts |= {"val": np.sort(order[:cut]), "train": np.sort(order[cut:])}
    for name, rows in parts.items():
        if not len(rows):
            raise ConfigError("task.data.split", rule, f"leaves no sequence for {name}")
    return parts


class EventData(TaskData):
    """Splits of one set as padded batches.

    Args:
        sequences: checked, in any unit.
        options: `task.data` of the config: unit, grid, origin, survival, split, split_seed, val_fraction, ties,
            max_tokens, batch_size, eval_batch_size.
        fold, folds: which published fold, and the folds [F, S].
        process: the generating process whose law is known, or None.
        seed: the job's seed; orders the training batches.

    Raises:
        ConfigError for an option's value, DatasetError for the data (repeated times under ties=refuse).
    """

    def __init__(
        self,
        sequences: EventSequences,
        options: Mapping[str, Any],
        *,
        seed: int,
        source: str,
        fold: int | None = None,
        folds: np.ndarray | None = None,
        process: Process | None = None,
    ) -> None:
        super().__init__(batch_size=options["batch_size"], eval_batch_size=options["eval_batch_size"], seed=seed)
        for option, known in (("split", SPLIT_RULES), ("ties", TIE_RULES), ("origin", ORIGINS)):
            if options[option] not in known:
                raise ConfigError(f"task.data.{option}", options[option], f"choose one of {', '.join(known)}")
        if options["unit"] != sequences.unit and not {options["unit"], sequences.unit} <= SECONDS.keys():
            raise ConfigError("task.data.unit", options["unit"], f"choose one of {', '.join(SECONDS)}")
        if options["max_tokens"] < 1:
            raise ConfigError("task.data.max_tokens", options["max_tokens"], "a batch holds at least one token")
        sequences = sequences.in_unit(options["unit"])
        if options["grid"]:
            sequences = replace(sequences, grid=float(options["grid"]))
        if not options["survival"]:
            sequences = replace(sequences, window_end=np.full(sequences.n_sequences, np.nan))
        sequences = resolve_ties(sequences, options["ties"], options["split_seed"], source)
        rows = split_rows(
            sequences,
            options["split"],
            seed=options["split_seed"],
            val_fraction=options["val_fraction"],
            folds=folds,
            fold=fold,
        )
        self.max_tokens, self.process, self.unit = options["max_tokens"], process, options["unit"]
        self.n_marks = sequences.n_marks
        # by length within a split, so that any run of neighbours pads little; no score depends on the order
        self.rows = {name: part[np.argsort(sequences.lengths[part], kind="stable")] for name, part in rows.items()}
        self.splits = {name: sequences.select(part) for name, part in self.rows.items()}
        self.origin = {name: origins(part, options["origin"]) for name, part in self.splits.items()}
        self.sizes = {name: part.n_sequences for name, part in self.splits.items()}
        self.statistics: GapStatistics = gap_statistics(self.splits["train"], source)
        for name in ("val", "test"):
            if self.splits[name].lengths.max() < 2:
                reason = f"every {name} sequence has a single event: there is none to predict"
                raise DatasetError(source, reason, "supply longer sequences, or another task.data.split")
        self.windowed = bool(np.isfinite(sequences.window_end).any())

    def batch(self, split: str, indices: np.ndarray) -> EventBatch:
        return make_batch(self.splits[split], self.origin[split], indices)

    def train_batches(self, epoch: int) -> list[np.ndarray]:
        """Neighbours in length together, at most `batch_size` sequences and `max_tokens` tokens, batches shuffled."""
        rng = np.random.default_rng([self.seed, epoch])
        lengths = self.splits["train"].lengths
        order = np.argsort(lengths * (1 + LENGTH_NOISE * rng.random(len(lengths))), kind="stable")
        batches = self._chunks(lengths, order, self.batch_size)
        return [batches[i] for i in rng.permutation(len(batches))]

    def eval_batches(self, split: str) -> list[np.ndarray]:
        """Every sequence once, in order of length."""
        return self._chunks(self.splits[split].lengths, np.arange(self.sizes[split]), self.eval_batch_size)

    def _chunks(self, lengths: np.ndarray, order: np.ndarray, size: int) -> list[np.ndarray]:
        chunks = []
        for chunk in np.array_split(order, np.arange(size, len(order), size)):
            parts = -(-len(chunk) * int(lengths[chunk].max()) // self.max_tokens)
            for part in np.array_split(chunk, min(parts, len(chunk))):
                chunks.extend(_halved(lengths, part))
        return chunks

    def predicted_per_batch(self) -> float:
        """Predicted training events a batch has on average: the constant that turns a sum over a batch into a mean."""
        train = self.splits["train"]
        return max(1.0, (len(train.times) - train.n_sequences) / self.steps_per_epoch)

    def true_log_likelihood(self, split: str) -> np.ndarray | None:
        """Log-likelihood of each sequence's predicted events under the generating process, [S]; None if unknown."""
        if self.process is None:
            return None
        part = self.splits[split]
        return np.bincount(
            part.row[np.isfinite(part.gaps())], weights=log_likelihood(self.process, part), minlength=part.n_sequences
        )


def _halved(lengths: np.ndarray, chunk: np.ndarray) -> list[np.ndarray]:
    """The chunk, or its halves of neighbours, until little of a batch is padding."""
    if len(chunk) == 1 or lengths[chunk].mean() >= (1 - MOST_PADDING) * lengths[chunk].max():
        return [chunk]
    middle = len(chunk) // 2
    return _halved(lengths, chunk[:middle]) + _halved(lengths, chunk[middle:])
