"""Forecasting as a stream: absorb one step at a time, forecast at any moment from a copy of the state.

Stationarisation needs the mean and scale of a window before its first step enters the stack, and a state cannot be
re-normalised afterwards (the normalised values have passed a nonlinear network). So a stream is opened with the
statistics it keeps to its end: those of the window itself, if the window is at hand (then the forecast equals the
parallel form), or those of the window before it when steps arrive live. With Aaren the state has one size however
long the stream runs.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tasks.forecasting.forecaster import Forecaster, Stationary


class ForecastStream:
    """B series side by side.

    Args:
        forecaster: in evaluation mode.
        statistics: mean and scale of the B series, kept to the end of the stream.

    The position code goes on as long as the stream does, but the network was trained on forecasts after exactly
    `task.history` steps: open a new stream with fresh statistics once that many have been absorbed.
    """

    def __init__(self, forecaster: Forecaster, statistics: Stationary) -> None:
        self.forecaster, self.statistics, self.steps = forecaster, statistics, 0
        self.state = forecaster.backbone.initial_state(statistics.mean.shape[0])
        self._before = forecaster.embedding.nothing_before(statistics.mean)

    @torch.no_grad()
    def absorb(self, x_t: Float[Tensor, "B C"], marks_t: Float[Tensor, "B F"]) -> None:
        """One step of history, on the standardised scale."""
        z = self.statistics.apply(x_t[:, None])
        token = self.forecaster.embedding(self._before, z, marks_t[:, None], self.steps)[:, 0]
        _, self.state = self.forecaster.backbone.step(token, self.state)
        self._before = torch.cat([self._before, z], 1)[:, 1:]
        self.steps += 1

    @torch.no_grad()
    def forecast(self, marks: Float[Tensor, "B T F"]) -> Float[Tensor, "B T C"]:
        """The next T steps, whose time marks are `marks`; leaves the stream as it is."""
        state, before = self.state.clone(), self._before
        placeholder = torch.zeros_like(self.statistics.mean)
        outputs = []
        for ahead in range(marks.shape[1]):
            position = self.steps + ahead
            token = self.forecaster.embedding(before, placeholder, marks[:, ahead : ahead + 1], position)[:, 0]
            y_t, state = self.forecaster.backbone.step(token, state)
            before = torch.cat([before, placeholder], 1)[:, 1:]
            outputs.append(self.forecaster.head(y_t))
        return self.statistics.undo(torch.stack(outputs, 1))
