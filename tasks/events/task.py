"""The event task: the log-likelihood of gaps and marks, scores per predicted event, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.events.batch import EventBatch
from tasks.events.data import EventData
from tasks.events.model import EventModel
from tasks.events.rules import Rule, Truth
from tasks.events.scores import Scored, Scores, calibration
from tasks.events.scoring import base_log_likelihood, log_likelihood, score_model
from tasks.task import Measure, Selection, Task, TaskData


class _Scoring(Task):
    """What models and rules share: scores of a split, and the calibration of test gaps."""

    selection = Selection("val", "nll", "min", "negative log-likelihood per predicted validation event")

    def __init__(self, data: EventData, *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(optim=optim, seed=seed)
        self.scores = {
            split: Scores(data.unit, data.true_log_likelihood(split), data.windowed) for split in ("val", "test")
        }
        self.test_parts: dict[str, np.ndarray] = {}

    def answer(self, batch: EventBatch) -> Scored:
        raise NotImplementedError

    def update_metrics(self, split: str, batch: EventBatch) -> None:
        self.scores[split].add(batch, self.answer(batch))

    def compute_metrics(self, split: str) -> dict[str, Measure]:
        if split == "test":
            self.test_parts = self.scores[split].joined()
        return self.scores[split].measures()

    def artefacts(self, data: TaskData) -> dict[str, Any]:
        """Calibration of the test gaps; NLL and count of every test sequence, for paired comparisons."""
        parts = self.test_parts
        if not parts:
            return {}
        nll = -(parts["time"] + parts["mark"])
        return {
            "calibration": calibration(parts["pit"]),
            "by_sequence": {
                "nll": [round(float(v), 6) for v in nll],
                "predicted": [int(v) for v in parts["predicted"]],
            },
        }


class EventTask(_Scoring):
    """Trains an `EventModel`.

    The loss is minus the log-likelihood of gaps, marks and known window ends, a sum over the batch over a constant
    (predicted events of an average batch), so that every event weighs the same whatever batch it is in.
    """

    divisible = True

    def __init__(self, model: EventModel, data: EventData, *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(data, optim=optim, seed=seed)
        self.model = model
        self.events_per_batch = data.predicted_per_batch()

    def loss_terms(self, batch: EventBatch) -> None:
        return None

    def training_loss(self, batch: EventBatch) -> Tensor:
        gaps, marks, tails = log_likelihood(self.model, batch)
        return -(gaps + marks + tails) / self.events_per_batch

    def answer(self, batch: EventBatch) -> Scored:
        return score_model(self.model, batch)


class BaseEventTask(EventTask):
    """The base code's books (protocol, 1.1 and 1.2): its sum over a batch, its L2 term, its scores, its checkpoint."""

    selection = Selection(
        "val",
        "base_rmse",
        "min",
        "paper_compat: the base code scores the checkpoint with the best validation base_rmse",
    )

    divisible = False  # the sum has a term that is no item's

    def __init__(self, model: EventModel, data: EventData, *, optim: Mapping[str, Any], seed: int) -> None:
        # its weight decay is a term of the loss; the optimiser gets none
        super().__init__(model, data, optim={**optim, "weight_decay": 0.0}, seed=seed)
        self.l2 = float(optim.get("weight_decay", 0.0))

    def training_loss(self, batch: EventBatch) -> Tensor:
        penalty = torch.stack([p.square().sum() for p in self.model.parameters()]).sum()
        return -base_log_likelihood(self.model, batch) + self.l2 * 0.5 * penalty

    def answer(self, batch: EventBatch) -> Scored:
        return score_model(self.model, batch, base=True)


class RuleTask(_Scoring):
    """Scores a trivial rule or the truth; nothing is trained."""

    def __init__(self, rule: Rule | Truth, data: EventData, *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(data, optim=optim, seed=seed)
        self.rule = rule

    def training_loss(self, batch: EventBatch) -> Tensor:
        raise TypeError("a rule has nothing to train")

    def answer(self, batch: EventBatch) -> Scored:
        return self.rule.score(batch)
