"""What a live demonstration needs: a model trained in seconds on a known process, and a monitor of its stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import kstest

from tasks.events.batch import make_batch, origins
from tasks.events.model import EventModel
from tasks.events.processes import Process
from tasks.events.scoring import log_likelihood
from tasks.events.simulate import as_sequences
from tasks.events.statistics import gap_statistics
from tasks.events.streaming import EventForecaster, EventState, NextEvent

RECENT = 500  # transforms that the sliding calibration looks at


def train_quickly(process: Process, *, attention: str, steps: int, seed: int = 0) -> EventForecaster:
    """A small model after `steps` optimiser steps on fresh sequences of the process; some 10 ms a step."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0])
    sequences = as_sequences(process.simulate(200, rng), process)
    model = EventModel(
        n_marks=process.n_marks,
        statistics=gap_statistics(sequences, "simulated"),
        attention=attention,
        d_model=32,
        n_layers=2,
        n_heads=1,
        d_ff=32,
        dropout=0.0,
        gap_input=True,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        batch = make_batch(sequences, origins(sequences, "window"), rng.choice(200, 16, replace=False))
        loss = -torch.stack(log_likelihood(model, batch)).sum() / len(batch.gap)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return EventForecaster(model)


def endless(process: Process, seed: int) -> Iterator[tuple[float, int, float]]:
    """Events of one sequence of the process: time, mark, and the log-likelihood of each under the truth."""
    simulated = process.simulate(1, np.random.default_rng([seed, 1]))
    times, marks, valid = simulated.times[0], simulated.marks[0], simulated.valid[0]
    laws = process.laws(*simulated)
    yield float(times[0]), int(marks[0]), 0.0
    for i in range(1, int(valid.sum())):
        law, gap = laws.select(np.array([i - 1])), times[i : i + 1] - times[i - 1]
        mark_law = law.mark_log_probs(gap)
        extra = 0.0 if mark_law is None else float(mark_law[0, marks[i]])
        yield float(times[i]), int(marks[i]), float(law.log_prob(gap)[0]) + extra


class Monitor:
    """One entity's stream, scored before each update: prequential NLL beside the truth's, and sliding calibration."""

    def __init__(self, forecaster: EventForecaster) -> None:
        self.forecaster = forecaster
        self.state: EventState = forecaster.initial_state(1, origin=torch.zeros(1))
        self.law: NextEvent | None = None
        self.count, self.nll, self.true_nll = 0, 0.0, 0.0
        self.transforms: deque[float] = deque(maxlen=RECENT)

    def take(self, time: float, mark: int, true_log_prob: float) -> None:
        """Score the event by the law that stood before it, then let the state see it."""
        when, which = torch.tensor([time], dtype=torch.float64), torch.tensor([mark])
        if self.law is not None:
            gap = (when - self.state.last).to(self.law.gap.means.dtype)
            self.nll -= float(self.law.log_prob(gap, which))
            self.true_nll -= true_log_prob
            self.transforms.append(float(self.law.gap.cdf(gap)))
            self.count += 1
        self.state, self.law = self.forecaster.step(self.state, when, which)

    def chance(self, waited: float, horizon: float) -> float:
        """The probability of an event in the next `horizon`, having waited; the network is not run."""
        if self.law is None:
            raise ValueError("no event yet: there is nothing to wait from")
        dtype = self.law.gap.means.dtype
        rest = self.law.elapsed(torch.tensor([waited], dtype=dtype))
        return float(rest.within(torch.tensor([horizon], dtype=dtype)))

    @property
    def drift(self) -> float:
        """KS distance of the recent transforms from uniform: large when the stream no longer follows the model."""
        return float(kstest(list(self.transforms), "uniform").statistic) if len(self.transforms) > 1 else 0.0
