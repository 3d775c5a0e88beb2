"""The classification task: cross-entropy, accuracy over every case, and a stream that answers at any moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from tasks.classification.data import Batch, ClassificationData
from tasks.classification.model import CausalClassifier
from tasks.classification.stream import ClassStream
from tasks.task import Measure, Selection, Task, TaskData

FRACTIONS = tuple(tenth / 10 for tenth in range(1, 11))


def _metrics(classes: int) -> MetricCollection:
    # Sums in float64, so that the batch size of an evaluation does not show.
    loss = MeanMetric().set_dtype(torch.float64)
    return MetricCollection({"accuracy": MulticlassAccuracy(classes, average="micro"), "cross_entropy": loss})


class ClassificationTask(Task):
    """Trains and scores a network whose `forward(x, lengths)` gives logits [batch, classes].

    Selection is by validation accuracy; among equal accuracies (a 24-case split has few) the lower
    cross-entropy wins. Both in one number: correct cases + exp(-mean cross-entropy), the latter being below 1
    unless all are right.
    """

    selection = Selection(
        "val",
        "selection_score",
        "max",
        "accuracy, ties broken by the lower cross-entropy; validation is a stratified fifth of TRAIN",
    )

    divisible = True

    def __init__(self, network: nn.Module, classes: int, *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(optim=optim, seed=seed)
        self.network = network
        self.scores = nn.ModuleDict({split: _metrics(classes) for split in ("val", "test")})

    def loss_terms(self, batch: Batch) -> Tensor:
        return torch.tensor(len(batch.labels))

    def training_loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.network(batch.x, batch.lengths), batch.labels)

    def update_metrics(self, split: str, batch: Batch) -> None:
        scores: Any = self.scores[split]
        logits = self.network(batch.x, batch.lengths)
        scores["accuracy"].update(logits, batch.labels)
        loss = F.cross_entropy(logits.double(), batch.labels, reduction="none")
        scores["cross_entropy"].update(loss)

    def compute_metrics(self, split: str) -> dict[str, Measure]:
        scores: Any = self.scores[split]
        n = int(scores["cross_entropy"].weight)
        accuracy, loss = float(scores["accuracy"].compute()), float(scores["cross_entropy"].compute())
        scores.reset()
        # Counted again from the fraction: a float32 accuracy is exact enough to name the case count.
        correct = round(accuracy * n)
        measures = {
            "accuracy": Measure(correct / n, n, "fraction", True),
            "cross_entropy": Measure(loss, n, "nats", False),
        }
        if split == self.selection.split:
            measures["selection_score"] = Measure(correct + math.exp(-loss), n, "cases", True)
        return measures

    def stream(self, batch: int = 1) -> ClassStream:
        """A fresh stream of `batch` series; see `ClassStream`. Raises ValueError for a model without a
        state.
        """
        if not isinstance(self.network, CausalClassifier):
            raise ValueError(f"{type(self.network).__name__} does not look at the series: there is nothing to stream")
        return ClassStream(self.network, batch)

    @torch.no_grad()
    def artefacts(self, data: TaskData) -> dict[str, Any]:
        """Accuracy after a tenth, two tenths ... of each series, over all TEST cases, from one parallel pass.

        A fraction f of a series of n steps is its first max(1, round(f*n)) steps. `best_accuracy`: what can be reached,
        where it is known.
        """
        assert isinstance(data, ClassificationData)
        self.eval()
        network: Any = self.network
        correct = torch.zeros(len(FRACTIONS), dtype=torch.int64)
        for indices in data.eval_batches("test"):
            batch = data.batch("test", indices).to(self.device)
            running = network.running_logits(batch.x, batch.lengths)
            seen = batch.lengths[:, None] * torch.tensor(FRACTIONS, device=self.device)
            last = seen.round().long().clamp(min=1) - 1
            answers = running.argmax(-1).gather(1, last)
            correct += (answers == batch.labels[:, None]).sum(0).cpu()
        n = data.sizes["test"]
        best = {} if data.best_accuracy is None else {"best_accuracy": data.best_accuracy}
        return best | {
            "accuracy_by_fraction_seen": {
                "fraction": list(FRACTIONS),
                "accuracy": [int(count) / n for count in correct],
                "n": n,
                "split": "test",
            }
        }


class PaperCompatTask(ClassificationTask):
    """The same under `protocol=paper_compat`, where the validation set is TEST itself."""

    selection = Selection(
        "val",
        "selection_score",
        "max",
        "accuracy on TEST, which is the validation set here: an upper bound, as in the base code",
    )
