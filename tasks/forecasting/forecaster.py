"""The forecasting network: one causal stack over history and placeholders (protocol, section 2.3 a).

Shapes: B batch, L history, T horizon, C channels, F time marks, d model width.

It differs from the library's `Transformer` where a causal model must: one stack in place of encoder and decoder,
and a value embedding padded on the left (the library's is circular and looks one step ahead). The two layers of
the `paper` profile are those of the protocol's check run; the library's encoder has two as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aaren import Backbone
from tasks.positions import sinusoid

STATIONARY_EPS = 1e-5


class Stationary:
    """Series stationarisation (Liu et al. 2022): per window and channel, undone on the output."""

    def __init__(self, history: Float[Tensor, "B L C"]) -> None:
        self.mean = history.mean(1, keepdim=True)
        self.scale = (history.var(1, keepdim=True, correction=0) + STATIONARY_EPS).sqrt()

    def apply(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return (x - self.mean) / self.scale

    def undo(self, z: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return z * self.scale + self.mean


class TokenEmbedding(nn.Module):
    """Token = causal convolution of the values + sinusoid of the position + linear map of the time marks.

    Args:
        channels: C.
        marks: F, the number of time marks a step.
        d_model: d.
        kernel: taps of the convolution, the last on the step itself.
        dropout: after the sum.
    """

    def __init__(self, channels: int, marks: int, d_model: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.values = nn.Conv1d(channels, d_model, kernel, bias=False)
        nn.init.kaiming_normal_(self.values.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.marks = nn.Linear(marks, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.kernel, self.d_model = kernel, d_model

    def forward(
        self, before: Float[Tensor, "B K C"], z: Float[Tensor, "B N C"], marks: Float[Tensor, "B N F"], start: int
    ) -> Float[Tensor, "B N d"]:
        """Tokens of the steps start .. start + N - 1; `before` holds the K = kernel - 1 normalised steps before."""
        taps = torch.cat([before, z], 1).transpose(1, 2)
        position = sinusoid(start, z.shape[1], self.d_model, z)
        return self.dropout(self.values(taps).transpose(1, 2) + position + self.marks(marks))

    def nothing_before(self, z: Float[Tensor, "B N C"]) -> Float[Tensor, "B K C"]:
        """What the convolution sees before the first step: zeros, the mean of a normalised window."""
        return z.new_zeros(z.shape[0], self.kernel - 1, z.shape[2])


class Forecaster(nn.Module):
    """History in, forecast out; any registered attention.

    Args:
        attention: a registered name.
        channels, marks, horizon: C, F, T.
        d_model, n_layers, n_heads, d_ff, dropout, activation, value_kernel: sizes of the stack.
    """

    def __init__(
        self,
        attention: str,
        *,
        channels: int,
        marks: int,
        horizon: int,
        d_model: int,
        n_layers: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        activation: str = "gelu",
        value_kernel: int = 3,
    ) -> None:
        super().__init__()
        self.channels, self.horizon = channels, horizon
        self.embedding = TokenEmbedding(channels, marks, d_model, value_kernel, dropout)
        self.backbone = Backbone(
            attention,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            dropout=dropout,
            hidden_dropout=dropout,
            activation=activation,
            norm="post",
            final_norm=True,
        )
        self.head = nn.Linear(d_model, channels)

    def forward(self, history: Float[Tensor, "B L C"], marks: Float[Tensor, "B LT F"]) -> Float[Tensor, "B T C"]:
        """The forecast of the `horizon` steps that follow `history`.

        Args:
            history: values on the standardised scale.
            marks: time marks of the history and of the steps to forecast.
        """
        stationary = Stationary(history)
        # A placeholder's value is zero, the mean of the normalised window: it says nothing about the future.
        z = F.pad(stationary.apply(history), (0, 0, 0, self.horizon))
        tokens = self.embedding(self.embedding.nothing_before(z), z, marks, 0)
        y, _ = self.backbone(tokens)
        return stationary.undo(self.head(y[:, -self.horizon :]))
