"""Forecasters without parameters: what every network has to beat (protocol, section 4.3)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class RepeatLast(nn.Module):
    """The last value goes on."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon

    def forward(self, history: Float[Tensor, "B L C"], marks: Float[Tensor, "B LT F"]) -> Float[Tensor, "B T C"]:
        return history[:, -1:].expand(-1, self.horizon, -1)


class WindowMean(RepeatLast):
    """The mean of the window goes on: what an untrained stationarised network predicts."""

    def forward(self, history: Float[Tensor, "B L C"], marks: Float[Tensor, "B LT F"]) -> Float[Tensor, "B T C"]:
        return history.mean(1, keepdim=True).expand(-1, self.horizon, -1)


NAIVE = {"repeat_last": RepeatLast, "window_mean": WindowMean}
