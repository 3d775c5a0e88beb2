"""The classifier: a causal stack under the Time Series Library's flattened head (protocol, section 1.3).

Shapes: B batch, N steps of this batch, L the longest series the head serves, C channels, d model width, K
classes.

The head is one Linear(d*L -> K) over all steps, h_t of padded steps being zero. Cut by steps it is a running
sum, logits_t = b + sum_{i<=t} W_i h_i, so the same weights give a label at any moment (`stream.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from aaren import Backbone
from tasks.positions import sinusoid


class CausalClassifier(nn.Module):
    """Value embedding + position -> causal backbone -> GELU -> dropout -> flattened head.

    Args:
        channels, classes: of the dataset.
        steps: L, the longest series of the dataset as published.
        reached: the longest series in the training part. Head columns of later steps never get a gradient; they
            start at zero, so that a longer series is judged by what was trained and not by an initial draw.
        attention, d_model, n_layers, n_heads, d_ff, dropout, activation, norm: of the backbone.
        embedding_kernel: width of the causal convolution that embeds the values (1: each step by itself). The base
            code's is 3, but circular: it looks one step ahead and wraps around, which a causal model must not.
    """

    position: Tensor

    def __init__(
        self,
        *,
        channels: int,
        classes: int,
        steps: int,
        reached: int,
        attention: str,
        d_model: int = 128,
        n_layers: int = 3,
        n_heads: int = 8,
        d_ff: int = 256,
        dropout: float = 0.1,
        activation: str = "gelu",
        norm: str = "post",
        embedding_kernel: int = 3,
    ) -> None:
        super().__init__()
        if embedding_kernel < 1:
            raise ValueError(f"embedding_kernel={embedding_kernel} must be at least 1")
        self.channels, self.classes, self.steps, self.kernel = channels, classes, steps, embedding_kernel
        self.embed = nn.Linear(embedding_kernel * channels, d_model, bias=False)
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.register_buffer("position", sinusoid(0, steps, d_model, self.embed.weight), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.backbone = Backbone(
            attention,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            dropout=dropout,
            hidden_dropout=dropout,
            norm=norm,
            activation=activation,
            final_norm=True,
        )
        self.head = nn.Linear(d_model * steps, classes)
        with torch.no_grad():
            self.step_weights()[:, reached:] = 0.0

    def step_weights(self) -> Float[Tensor, "K L d"]:
        """The head's weight cut by steps; a view."""
        return self.head.weight.view(self.classes, self.steps, -1)

    def check_length(self, steps: int) -> None:
        """Raises ValueError for a series longer than the head was trained for."""
        if steps > self.steps:
            raise ValueError(
                f"step {steps} of a series, but the classifier's head ends at step {self.steps}, the longest series "
                "of its dataset; cut the series or train on longer ones"
            )

    def tokens(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N d"]:
        """Embedded values plus position; token t sees steps t-kernel+1 .. t, zeros before the first."""
        self.check_length(x.shape[1])
        past = F.pad(x, (0, 0, self.kernel - 1, 0))
        window = past.unfold(1, self.kernel, 1).flatten(2)  # [B, N, C, k] -> [B, N, C*k], oldest step first
        return self.dropout(self.embed(window) + self.position[: x.shape[1]])

    def hidden(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N d"]:
        """What the head reads. Right padding needs no mask: under a causal order no real step sees it."""
        y, _ = self.backbone(self.tokens(x))
        return self.dropout(F.gelu(y))

    def forward(self, x: Float[Tensor, "B N C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        """Logits after the whole of each series; steps from `lengths` on are padding and count for
        nothing.
        """
        h = self.hidden(x) * self._real(x, lengths)
        weight = self.step_weights()[:, : x.shape[1]].flatten(1)
        return F.linear(h.flatten(1), weight, self.head.bias)

    def running_logits(self, x: Float[Tensor, "B N C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B N K"]:
        """Logits after each step, in one pass; after the end of a series they stay."""
        h = self.hidden(x) * self._real(x, lengths)
        parts = torch.einsum("bnd,knd->bnk", h, self.step_weights()[:, : x.shape[1]])
        # Sums of up to 1,751 terms: float64 keeps the running form equal to the flattened one.
        return (parts.double().cumsum(1) + self.head.bias.double()).to(h.dtype)

    @staticmethod
    def _real(x: Tensor, lengths: Tensor) -> Tensor:
        return (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None].to(x.dtype)


class Majority(nn.Module):
    """The trivial model: the class frequencies of the training part, whatever the series.

    One is added to each count (Laplace), so that a class unseen in training costs a finite loss.
    """

    log_prior: Tensor

    def __init__(self, counts: Int[Tensor, " K"]) -> None:
        super().__init__()
        smoothed = counts.double() + 1.0
        self.register_buffer("log_prior", (smoothed / smoothed.sum()).log().float())

    def forward(self, x: Float[Tensor, "B N C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        return self.log_prior.expand(len(x), -1)

    def running_logits(self, x: Float[Tensor, "B N C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B N K"]:
        return self.log_prior.expand(*x.shape[:2], -1)
