"""The event model's step for a host without torch: an event in, the law of the next one out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from aaren.export import StreamingStep, folded
from aaren.flat import FlatState, Port, state_grows
from tasks.errors import ConfigError
from tasks.events.data import EventData
from tasks.events.model import EventModel
from tasks.events.streaming import EventForecaster, NextEvent
from tasks.events.task import EventTask
from tasks.exportable import Exportable, Turn

GUIDE = (
    "Feed each entity's events in order, times strictly increasing, in scaling.unit; mark = 0 for unmarked sets.",
    "The clock starts at the first event; set the state `origin` to where the entity's window opens if that is known.",
    "Gap to the next event: a mixture of log-normals, density = sum_m exp(log_weights_m) LogNormal(means_m, sigmas_m), "
    "expected_gap its mean; it is expected at time + expected_gap.",
    "Mark of the next event: exp(mark_log_probs), whatever the gap.",
)
OUTPUTS = {
    "log_weights": "of the mixture's components, normalised",
    "means": "of the log gap, a component each",
    "sigmas": "of the log gap, a component each",
}


class EventStep(StreamingStep):
    """One event of an entity.

    Args:
        model: trained.
        capacity: the most events an entity may have, for a model whose state grows.
    """

    def __init__(self, model: EventModel, capacity: int | None) -> None:
        super().__init__()
        self.model = folded(model)
        self.flat = FlatState(self.model.backbone, capacity)
        self.capacity = capacity
        self.inputs = [
            Port("time", (), "float64", "of the event, on the entity's own clock"),
            Port("mark", (), "int64", f"of the event, 0 to {model.n_marks - 1}"),
        ]
        self.outputs = [
            *(Port(name, (model.gap_head.components,), "float32", meaning) for name, meaning in OUTPUTS.items()),
            Port("mark_log_probs", (model.n_marks,), "float32", "log P of each mark"),
            Port("expected_gap", (), "float32", "mean time to the next event"),
        ]
        self.state = [
            Port("origin", (), "float64", "where the clock starts; NaN: at the first event", float("nan")),
            Port("last", (), "float64", "time of the last event; NaN: none yet", float("nan")),
            *self.flat.ports,
        ]
        self.eval()

    def forward(
        self,
        time: Float[Tensor, " B"],
        mark: Int[Tensor, " B"],
        origin: Float[Tensor, " B"],
        last: Float[Tensor, " B"],
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        origin = torch.where(origin.isnan(), time, origin)
        gap = torch.where(last.isnan(), torch.zeros_like(time), time - last)
        token = self.model.tokens(time - origin, mark, gap)
        hidden, after = self.model.backbone.step(torch.zeros_like(token), self.flat.unflatten(state), None, token)
        law = NextEvent(self.model.gap_head(hidden), F.log_softmax(self.model.mark_logits(hidden), -1))
        position = state[0] + 1
        outputs = [self.flat.guard(output, position) for output in read(law).values()]
        return *outputs, origin, time.clone(), *self.flat.flatten(after, position)


def read(law: NextEvent) -> dict[str, Tensor]:
    """What the step gives of a law, by name."""
    gap = law.gap
    return {
        "log_weights": gap.log_weights,
        "means": gap.means,
        "sigmas": gap.sigmas,
        "mark_log_probs": law.mark_log_probs,
        "expected_gap": gap.mean(),
    }


def exportable(task: Any, data: EventData) -> Exportable:
    """The step of a trained task; a growing state gets room for the longest sequence of the set.

    Raises:
        ConfigError: a trivial rule.
    """
    if not isinstance(task, EventTask):
        raise ConfigError("model", type(task).__name__, "a rule has no state to export")
    longest = max(int(part.lengths.max()) for part in data.splits.values())
    step = EventStep(task.model, longest if state_grows(task.model.backbone) else None)
    scaling = {"unit": data.unit, "marks": data.n_marks}
    return Exportable(step, lambda: _drive(task, data), GUIDE, scaling)


def _drive(task: EventTask, data: EventData) -> Iterator[Turn]:
    """Test sequences, event by event, on the clock that the set is scored on."""
    forecaster = EventForecaster(task.model)
    for index in cycle(range(data.sizes["test"])):
        batch = data.batch("test", np.array([index]))
        zero = torch.zeros(1, dtype=torch.float64)  # a batch's times count from the origin
        state = forecaster.initial_state(1, origin=zero)
        start: dict[str, Tensor] | None = {"origin": zero}
        for t in range(int(batch.valid[0].sum())):
            when, which = batch.times[:, t], batch.marks[:, t]

            def take(when: Tensor = when, which: Tensor = which) -> dict[str, Tensor]:
                nonlocal state
                state, law = forecaster.step(state, when, which)
                return read(law)

            yield Turn({"time": when, "mark": which}, start, take)
            start = None
