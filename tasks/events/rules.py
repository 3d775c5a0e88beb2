"""Trivial rules, which every table shows beside the models, and the truth where it is known (protocol, 0.5 and 6).

The rules for marks carry the static log-normal as their law of gaps, so that each is a whole model of an event.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tasks.events.batch import EventBatch
from tasks.events.laws import LogNormalLaw, TrueLaw
from tasks.events.processes import Process
from tasks.events.scores import Scored
from tasks.events.sequences import EventSequences
from tasks.events.statistics import GapStatistics

RULES = ("repeat_mark", "most_common_mark", "markov", "static_lognormal")
TRUTH = "truth"


class MostCommonMark:
    """Frequencies of training marks, one added to each; every rule gives log P(target | previous) and a guess, [P]."""

    def __init__(self, train: EventSequences) -> None:
        counts = np.bincount(train.marks, minlength=train.n_marks)
        self.frequency = (counts + 1) / (counts.sum() + train.n_marks)
        self.best = int(counts.argmax())

    def log_prob(self, previous: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.log(self.frequency[target])

    def guess(self, previous: np.ndarray) -> np.ndarray:
        return np.full(len(previous), self.best)


class RepeatMark(MostCommonMark):
    """The last mark again with the training share of repeats, else by frequency."""

    def __init__(self, train: EventSequences) -> None:
        super().__init__(train)
        previous, following = transitions(train)
        self.share = ((previous == following).sum() + 1) / (len(previous) + 2)

    def log_prob(self, previous: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.log(self.share * (previous == target) + (1 - self.share) * self.frequency[target])

    def guess(self, previous: np.ndarray) -> np.ndarray:
        return previous


class Markov(MostCommonMark):
    """Order-1 transition counts with one pseudo-count spread by frequency; sparse, so that 8,227 marks are no table."""

    def __init__(self, train: EventSequences) -> None:
        super().__init__(train)
        previous, following = transitions(train)
        self.n_marks = train.n_marks
        self.pairs, self.counts = np.unique(previous * self.n_marks + following, return_counts=True)
        self.leaving = np.bincount(previous, minlength=self.n_marks)
        self.after = np.full(self.n_marks, self.best)
        ascending = np.argsort(self.counts, kind="stable")  # the last write of a row is its most frequent successor
        self.after[self.pairs[ascending] // self.n_marks] = self.pairs[ascending] % self.n_marks

    def log_prob(self, previous: np.ndarray, target: np.ndarray) -> np.ndarray:
        pair = previous * self.n_marks + target
        place = np.minimum(np.searchsorted(self.pairs, pair), max(len(self.pairs) - 1, 0))
        seen = np.where(self.pairs[place] == pair, self.counts[place], 0) if len(self.pairs) else 0
        return np.log((seen + self.frequency[target]) / (self.leaving[previous] + 1))

    def guess(self, previous: np.ndarray) -> np.ndarray:
        return self.after[previous]


def transitions(sequences: EventSequences) -> tuple[np.ndarray, np.ndarray]:
    """(mark, next mark) of all neighbouring events of one sequence."""
    inside = np.isfinite(sequences.gaps())[1:]
    return sequences.marks[:-1][inside], sequences.marks[1:][inside]


class Rule:
    """A law of gaps that ignores the history, and a rule for marks (None: unmarked)."""

    def __init__(self, statistics: GapStatistics, marks: MostCommonMark | None) -> None:
        self.statistics, self.marks = statistics, marks

    def score(self, batch: EventBatch) -> Scored:
        n = max(len(batch.gap), len(batch.tail))
        law = LogNormalLaw(np.full(n, self.statistics.log_mean), np.full(n, self.statistics.log_std))
        count = len(batch.gap)
        log_mark = hit = None
        if self.marks is not None:
            target = batch.target.cpu().numpy()
            previous = batch.marks.cpu().numpy().reshape(-1)[batch.source.cpu().numpy()]
            log_mark = torch.from_numpy(self.marks.log_prob(previous, target))
            hit = torch.from_numpy(self.marks.guess(previous) == target)
        predicted = law.select(np.arange(count))
        return _scored(predicted, batch, law.select(np.arange(len(batch.tail))), log_mark, hit)


class Truth:
    """The process that generated the set."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def score(self, batch: EventBatch) -> Scored:
        valid, marks = batch.valid.cpu().numpy(), batch.marks.cpu().numpy()
        after = self.process.laws(batch.times.cpu().numpy(), marks, valid)
        rank = np.cumsum(valid.reshape(-1)) - 1  # laws come for valid events only, in row order
        law = after.select(rank[batch.source.cpu().numpy()])
        gap, target = batch.gap.cpu().numpy(), batch.target.cpu().numpy()
        mark_law = law.mark_log_probs(gap)
        log_mark = hit = None
        if mark_law is not None:
            log_mark = torch.from_numpy(mark_law[np.arange(len(gap)), target])
            hit = torch.from_numpy(mark_law.argmax(1) == target)
        return _scored(law, batch, after.select(rank[batch.tail_source.cpu().numpy()]), log_mark, hit)


def _scored(law: TrueLaw, batch: EventBatch, tail_law: TrueLaw, log_mark: Tensor | None, hit: Tensor | None) -> Scored:
    gap = batch.gap.cpu().numpy()
    return Scored(
        log_prob=torch.from_numpy(law.log_prob(gap)),
        log_survival=torch.from_numpy(law.log_survival(gap)),
        mean=torch.from_numpy(law.mean()),
        median=torch.from_numpy(law.quantile(0.5)),
        log_mark=log_mark,
        hit=hit,
        tail_log_survival=torch.from_numpy(tail_law.log_survival(batch.tail.cpu().numpy())),
    )


def mark_rule(name: str, train: EventSequences) -> MostCommonMark | None:
    """The rule for marks that `name` stands for; static_lognormal names the most common mark."""
    if train.n_marks == 1:
        return None
    kinds = {"repeat_mark": RepeatMark, "markov": Markov}
    return kinds.get(name, MostCommonMark)(train)
