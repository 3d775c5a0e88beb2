"""Events as they come: one in, the law of the next one out, with a state that does not grow (protocol, section 7).

    forecaster = EventForecaster(model)
    state = forecaster.initial_state(entities)
    state, law = forecaster.step(state, time, mark)       # one event of each entity (or of the `active` ones)
    law.elapsed(waited).within(hour)                      # polled at any rate, the network is not run

With Aaren the state of an entity has a constant size; with softmax attention it holds every past key and value.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaren import State
from tasks.errors import DatasetError
from tasks.events.mixture import LogNormalMixture, RemainingWait
from tasks.events.model import EventModel
from tasks.events.sequences import refuse_coarse_floats
from tasks.npz import read_arrays
from tasks.suite.atomic import write_atomic


@dataclass(frozen=True)
class NextEvent:
    """The law of each entity's next event: its gap, and log P(mark) [B, K] whatever the gap."""

    gap: LogNormalMixture
    mark_log_probs: Float[Tensor, "B K"]

    def log_prob(self, gap: Float[Tensor, " B"], mark: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Log density of gap and mark together: the score of an event that came."""
        return self.gap.log_prob(gap) + self.mark_log_probs.gather(1, mark[:, None])[:, 0]

    def elapsed(self, waited: Float[Tensor, " B"]) -> RemainingWait:
        """The law of what is left to wait when `waited` has passed since the last event without another."""
        return self.gap.conditional(waited)


@dataclass
class EventState:
    """What a stream of B entities remembers.

    backbone: the layers' states; hidden [B, d]: the last output, from which the law is read again at any time;
    origin and last [B] float64: each clock's start (NaN: at the first event) and the last event's time (NaN: none).
    """

    backbone: State
    hidden: Tensor
    origin: Tensor
    last: Tensor

    @property
    def nbytes(self) -> int:
        return self.backbone.nbytes + sum(t.numel() * t.element_size() for t in (self.hidden, self.origin, self.last))

    def clone(self) -> EventState:
        """A copy that shares nothing: `step` may consume its state."""
        return EventState(self.backbone.clone(), self.hidden.clone(), self.origin.clone(), self.last.clone())

    def select(self, rows: Tensor) -> EventState:
        """The state of some entities, as a copy."""
        return EventState(self.backbone.select(rows), self.hidden[rows], self.origin[rows], self.last[rows])

    def save(self, path: Path) -> None:
        """Write plain arrays (npz), whole or not at all."""
        own = {"hidden": self.hidden, "origin": self.origin, "last": self.last}
        arrays = {name: t.cpu().numpy() for name, t in (self.backbone.state_dict() | own).items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        write_atomic(path, buffer.getvalue())


class EventForecaster:
    """A trained model, used one event at a time. Never trains: dropout is off, gradients are not kept."""

    def __init__(self, model: EventModel) -> None:
        self.model = model.eval()

    def initial_state(self, batch: int, origin: Float[Tensor, " B"] | None = None) -> EventState:
        """The state of entities without events. `origin`: where their windows open; None: at their first event."""
        weight = self.model.mark_embedding.weight
        unknown = torch.full((batch,), torch.nan, dtype=torch.float64, device=weight.device)
        hidden = weight.new_zeros(batch, weight.shape[1])
        start = unknown if origin is None else origin.double().clone()
        return EventState(self.model.backbone.initial_state(batch), hidden, start, unknown.clone())

    def load(self, path: Path) -> EventState:
        """A state that `EventState.save` wrote for a model like this one. Raises DatasetError for other files."""
        fix = "save it again with a model of the same configuration"
        try:
            tensors = {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
            hidden, origin, last = (tensors.pop(name) for name in ("hidden", "origin", "last"))
            empty = self.initial_state(len(last))
            if hidden.shape != empty.hidden.shape or origin.shape != last.shape:
                raise ValueError(f"entities of {tuple(hidden.shape)}, expected {tuple(empty.hidden.shape)}")
            return EventState(empty.backbone.load_state_dict(tensors), hidden, origin, last)
        except Exception as error:  # zip, header, dtype and shape faults come as a dozen classes
            raise DatasetError(path, f"is no saved stream state ({type(error).__name__}: {error})", fix) from error

    @torch.no_grad()
    def law(self, state: EventState) -> NextEvent:
        """The law of the next event as it stands; meaningful for entities with at least one event."""
        return NextEvent(self.model.gap_head(state.hidden), F.log_softmax(self.model.mark_logits(state.hidden), -1))

    @torch.no_grad()
    def step(
        self,
        state: EventState,
        time: Float[Tensor, " B"],
        mark: Int[Tensor, " B"] | None = None,
        active: Bool[Tensor, " B"] | None = None,
    ) -> tuple[EventState, NextEvent]:
        """Take one event of every entity (of the `active` ones; the others keep their state) and give the next law.

        Args:
            state: consumed; clone it first if it is needed again.
            time: on the entity's own clock, in the unit the model was trained in; float64 for large values.
            mark: None for unmarked streams.

        Raises:
            ValueError: a time that is not finite or not after the entity's last, or a mark outside the vocabulary.
        """
        here = torch.ones_like(time, dtype=torch.bool) if active is None else active
        marks = torch.zeros_like(time, dtype=torch.long) if mark is None else mark
        self._check(state, time, marks, here)
        time = time.double()
        origin = torch.where(here & state.origin.isnan(), time, state.origin)
        gap = torch.where(here & ~state.last.isnan(), time - state.last, 0.0)
        since = torch.where(here, time - origin, 0.0)
        token = self.model.tokens(since, torch.where(here, marks, 0), gap)
        hidden, layers = self.model.backbone.step(torch.zeros_like(token), state.backbone, here, token)
        hidden = torch.where(here[:, None], hidden, state.hidden)
        after = EventState(layers, hidden, origin, torch.where(here, time, state.last))
        return after, self.law(after)

    @torch.no_grad()
    def absorb(self, state: EventState, times: Float[Tensor, "B N"], marks: Int[Tensor, "B N"]) -> EventState:
        """Many events at once, in the parallel form: what `step` would give event by event. For backfills."""
        times = times.double()
        before = torch.cat((state.last[:, None], times[:, :-1]), 1)
        gaps = torch.where(before.isnan(), 0.0, times - before)
        if not (times.isfinite().all() and (gaps[:, 1:] > 0).all() and ((gaps[:, 0] > 0) | state.last.isnan()).all()):
            raise ValueError("times must be finite and strictly increasing, and come after what the state has seen")
        origin = torch.where(state.origin.isnan(), times[:, 0], state.origin)
        tokens = self.model.tokens(times - origin[:, None], marks, gaps)
        hidden, layers = self.model.encode(tokens, torch.ones_like(marks, dtype=torch.bool), state.backbone)
        return EventState(layers, hidden[:, -1], origin, times[:, -1])

    def _check(self, state: EventState, time: Tensor, mark: Tensor, here: Tensor) -> None:
        refuse_coarse_floats(time[here].cpu().numpy(), "stream", "this step")
        late = here & ~(time.isfinite() & (state.last.isnan() | (time > state.last)))
        if late.any():
            row = int(late.nonzero()[0])
            raise ValueError(
                f"entity {row}: time {float(time[row]):.10g} does not come after its last event at "
                f"{float(state.last[row]):.10g}; send events in order, and merge or spread those that coincide"
            )
        outside = here & ((mark < 0) | (mark >= self.model.n_marks))
        if outside.any():
            row = int(outside.nonzero()[0])
            raise ValueError(f"entity {row}: mark {int(mark[row])} outside 0 to {self.model.n_marks - 1}")
