"""The forecaster's step for a host without torch: absorb a step of history, or forecast the next one, from a state.

Both are one graph: a step to forecast is a placeholder whose value is not seen. The state being explicit, a host
forecasts from a copy simply by keeping the state from before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from aaren.export import StreamingStep, folded
from aaren.flat import FlatState, Port, state_grows
from tasks.errors import ConfigError
from tasks.exportable import Exportable, Turn
from tasks.forecasting.data import ForecastingData
from tasks.forecasting.forecaster import STATIONARY_EPS, Forecaster, Stationary
from tasks.forecasting.model import Forecasting
from tasks.forecasting.stream import ForecastStream
from tasks.positions import sinusoid_at

GUIDE = (
    "Scale the series: x = (raw - scaling.mean) / scaling.scale, channel by channel.",
    f"Open a stream with mean and scale = sqrt(variance + {STATIONARY_EPS}) of the window to come (the last "
    "`history` steps), or of the window before it if steps arrive live; feed the same two to every step of the stream.",
    "Absorb `history` steps: seen = true, x and marks of the step; leave `forecast` unread.",
    "Forecast: one call a step to come, seen = false, marks of that step; `forecast` is on the scaled series.",
    "Keep the state of the last absorbed step to go on from: what the placeholders leave is thrown away.",
)


class ForecastStep(StreamingStep):
    """One time step, seen or to be forecast.

    Args:
        forecaster: trained.
        capacity: history and horizon together, for a model whose state grows.
    """

    def __init__(self, forecaster: Forecaster, capacity: int | None) -> None:
        super().__init__()
        self.forecaster = folded(forecaster)
        self.flat = FlatState(self.forecaster.backbone, capacity)
        self.capacity = capacity
        channels, embedding = forecaster.channels, forecaster.embedding
        self.inputs = [
            Port("x", (channels,), "float32", "the step on the scaled series; any number where seen is false"),
            Port("marks", (embedding.marks.in_features,), "float32", "time marks of the step"),
            Port("mean", (channels,), "float32", "of the window, on the scaled series"),
            Port("scale", (channels,), "float32", "of the window, on the scaled series"),
            Port("seen", (), "bool", "true: a step of history; false: a step to forecast"),
        ]
        self.outputs = [Port("forecast", (channels,), "float32", "of this step, where seen is false")]
        window = Port("window", (embedding.kernel, channels), "float32", "the last normalised steps, oldest first", 0)
        self.state = [window, *self.flat.ports]
        self.eval()

    def forward(
        self,
        x: Float[Tensor, "B C"],
        marks: Float[Tensor, "B F"],
        mean: Float[Tensor, "B C"],
        scale: Float[Tensor, "B C"],
        seen: Bool[Tensor, " B"],
        window: Float[Tensor, "B K C"],
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        embedding, position = self.forecaster.embedding, state[0]
        z = torch.where(seen[:, None], (x - mean) / scale, torch.zeros_like(x))
        window = torch.cat([window[:, 1:], z[:, None]], 1)
        code = sinusoid_at(position.double(), embedding.d_model).to(x.dtype)
        taps = window.transpose(1, 2).flatten(1)  # [B, C * K]: the convolution at one step is a linear map
        token = F.linear(taps, embedding.values.weight.flatten(1)) + code + embedding.marks(marks)
        y, after = self.forecaster.backbone.step(token, self.flat.unflatten(state))
        forecast = self.forecaster.head(y) * scale + mean
        position = position + 1
        return self.flat.guard(forecast, position), window, *self.flat.flatten(after, position)


def exportable(task: Any, data: ForecastingData) -> Exportable:
    """The step of a trained task.

    Raises:
        ConfigError: a naive forecaster.
    """
    assert isinstance(task, Forecasting)
    if not isinstance(task.forecaster, Forecaster):
        raise ConfigError("model", type(task.forecaster).__name__, "a naive forecaster has no state to export")
    bounded = state_grows(task.forecaster.backbone)
    step = ForecastStep(task.forecaster, data.history + data.horizon if bounded else None)
    scaler: Any = data.scaler
    scaling = {
        "columns": data.columns,
        "mean": [float(v) for v in scaler.mean_],
        "scale": [float(v) for v in scaler.scale_],
        "history": data.history,
        "horizon": data.horizon,
    }
    return Exportable(step, lambda: _drive(task, data), GUIDE, scaling)


def _drive(task: Forecasting, data: ForecastingData) -> Iterator[Turn]:
    """Test windows: the history step by step, then the forecast of its own stream."""
    for number in count():
        batch = data.batch("test", np.array([number * data.history % data.sizes["test"]]))
        statistics = Stationary(batch.history)
        fixed = {"mean": statistics.mean[:, 0], "scale": statistics.scale[:, 0]}
        stream = task.stream(statistics)
        for t in range(data.history):
            x, marks = batch.history[:, t], batch.marks[:, t]

            def absorb(stream: ForecastStream = stream, x: Tensor = x, marks: Tensor = marks) -> dict[str, Tensor]:
                stream.absorb(x, marks)
                return {}

            yield Turn({"x": x, "marks": marks, "seen": torch.ones(1, dtype=torch.bool), **fixed}, _first(t), absorb)
        forecast = stream.forecast(batch.marks[:, data.history :])
        for t in range(data.horizon):
            answer = {"forecast": forecast[:, t]}
            inputs = {"x": torch.zeros_like(forecast[:, t]), "marks": batch.marks[:, data.history + t], **fixed}
            seen = torch.zeros(1, dtype=torch.bool)
            yield Turn({**inputs, "seen": seen}, None, lambda answer=answer: answer, timed=False)


def _first(t: int) -> dict[str, Tensor] | None:
    return {} if t == 0 else None
