"""The classifier's step for a host without torch: one step of a series in, the logits so far out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from aaren.export import StreamingStep, folded
from aaren.flat import FlatState, Port
from tasks.classification.data import ClassificationData
from tasks.classification.model import CausalClassifier
from tasks.classification.task import ClassificationTask
from tasks.errors import ConfigError
from tasks.exportable import Exportable, Turn

GUIDE = (
    "Scale the series: x = (raw - scaling.mean) / scaling.scale, channel by channel.",
    "Start a stream for each series; feed its steps in order.",
    "`logits` name the class at any moment: scaling.classes[argmax]; softmax gives probabilities.",
    "The head ends at `capacity` steps, the longest series of its set: past them the logits are NaN.",
)


class ClassStep(StreamingStep):
    """One step of a series; the running sum of logits is part of the state, in float64."""

    weights: Tensor
    bias: Tensor

    def __init__(self, network: CausalClassifier) -> None:
        super().__init__()
        self.network = folded(network)
        self.flat = FlatState(self.network.backbone, network.steps)
        self.capacity = network.steps
        # A step's part of the head, so that a host gathers one row: [L, K, d].
        self.register_buffer("weights", network.step_weights().detach().transpose(0, 1).contiguous())
        self.register_buffer("bias", network.head.bias.detach().double())
        self.inputs = [Port("x", (network.channels,), "float32", "the next step of the series, scaled")]
        self.outputs = [Port("logits", (network.classes,), "float32", "of the classes, from all steps so far")]
        self.state = [
            Port("window", (network.kernel, network.channels), "float32", "the last steps, oldest first", 0),
            Port("logits_sum", (network.classes,), "float64", "logits so far, without the bias", 0),
            *self.flat.ports,
        ]
        self.eval()

    def forward(
        self,
        x: Float[Tensor, "B C"],
        window: Float[Tensor, "B k C"],
        logits_sum: Float[Tensor, "B K"],
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        net, position = self.network, state[0]
        row = position.clamp(max=net.steps - 1)
        window = torch.cat([window[:, 1:], x[:, None]], 1)
        token = net.embed(window.transpose(1, 2).flatten(1)) + net.position[row]
        y, after = net.backbone.step(token, self.flat.unflatten(state))
        part = torch.bmm(self.weights[row], F.gelu(y)[:, :, None])[:, :, 0]
        logits_sum = logits_sum + part.double()
        position = position + 1
        logits = self.flat.guard((logits_sum + self.bias).to(x.dtype), position)
        return logits, window, logits_sum, *self.flat.flatten(after, position)


def exportable(task: Any, data: ClassificationData) -> Exportable:
    """The step of a trained task.

    Raises:
        ConfigError: a model that does not look at the series.
    """
    assert isinstance(task, ClassificationTask)
    if not isinstance(task.network, CausalClassifier):
        raise ConfigError("model", type(task.network).__name__, "it does not look at the series: no step to export")
    scaler: Any = data.scalers["train"]
    scaling = {
        "classes": list(data.classes),
        "mean": [float(v) for v in scaler.mean_],
        "scale": [float(v) for v in scaler.scale_],
    }
    return Exportable(ClassStep(task.network), lambda: _drive(task, data), GUIDE, scaling)


def _drive(task: ClassificationTask, data: ClassificationData) -> Iterator[Turn]:
    """Test series, each from its first step to its last."""
    for index in cycle(range(data.sizes["test"])):
        batch = data.batch("test", np.array([index]))
        stream = task.stream()
        for t in range(int(batch.lengths[0])):
            x = batch.x[:, t]
            start: dict[str, Tensor] | None = {} if t == 0 else None
            yield Turn({"x": x}, start, lambda x=x, stream=stream: {"logits": stream.step(x)})
