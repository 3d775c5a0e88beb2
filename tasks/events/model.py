"""The event model: the base code's encoder around any registered attention, and the heads for gap and mark.

Protocol sections 0 and 1.1: absolute time since the sequence's origin goes into a sinusoidal code, which is added, with
the mark's embedding, before every layer; the gap goes into the likelihood. A token's output gives the law of the event
after it, so that nothing about that event is seen.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aaren import Attention, Backbone, State
from tasks.events.mixture import LogNormalMixture
from tasks.events.statistics import GapStatistics

LONGEST_WAVE = 10000.0


class TimeCode(nn.Module):
    """sin(t f_j), cos(t f_j) on alternate dimensions, f_j = 10000^(-2j/d) (protocol, 1.1).

    Times are float64 until the phase is reduced to one turn: float32 would lose the fast waves of a long stream.
    """

    turns: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model={d_model} must be even: the time code pairs a sine with a cosine")
        powers = torch.arange(0, d_model, 2, dtype=torch.float64) / d_model
        self.register_buffer("turns", LONGEST_WAVE**-powers / (2 * math.pi), persistent=False)

    def forward(self, times: Float[Tensor, "..."], dtype: torch.dtype = torch.float32) -> Float[Tensor, "... d"]:
        turns = times.double()[..., None] * self.turns
        phase = ((turns - turns.floor()) * (2 * math.pi)).to(dtype)
        return torch.stack((phase.sin(), phase.cos()), -1).flatten(-2)


class MixtureHead(nn.Module):
    """MLP to the parameters of a log-normal mixture of standardised log gaps.

    Sigma of the plain log gap lies between a floor (half a grid step in log space at the median gap, at least
    `sigma_floor`) and `sigma_cap`: without the floor a clock of whole steps has unbounded density, without the cap the
    mean exp(sigma^2/2) explodes (protocol, 3.2 and 3.3). `plain=True` is the base code: nothing standardised, softplus.
    """

    statistics: Tensor

    def __init__(
        self,
        d_model: int,
        components: int,
        statistics: GapStatistics,
        sigma_floor: float,
        sigma_cap: float,
        plain: bool = False,
    ) -> None:
        super().__init__()
        floor = max(sigma_floor, 0.5 * statistics.grid / statistics.median)
        if components < 1:
            raise ValueError(f"components={components}: a mixture needs at least one")
        if not 0 < floor < sigma_cap:
            raise ValueError(f"sigma_cap={sigma_cap} must lie above the floor of sigma, {floor:.4g}")
        self.components, self.plain = components, plain
        self.hidden, self.out = nn.Linear(d_model, d_model), nn.Linear(d_model, 3 * components)
        loc, scale = (0.0, 1.0) if plain else (statistics.log_mean, statistics.log_std)
        self.register_buffer("statistics", torch.tensor([loc, scale, math.log(floor), math.log(sigma_cap)]))
        if not plain:
            self._start_at_the_static_law(scale, floor, sigma_cap)

    def _start_at_the_static_law(self, scale: float, floor: float, cap: float) -> None:
        """Means spread over the standardised log gaps, sigmas near the spread: learning starts at a fair law."""
        with torch.no_grad():
            quantiles = (torch.arange(self.components, dtype=torch.float64) + 0.5) / self.components
            wanted = min(max(0.7 * scale, 1.01 * floor), 0.99 * cap)
            share = (math.log(wanted) - math.log(floor)) / (math.log(cap) - math.log(floor))
            _, means, sigmas = self.out.bias.view(3, self.components)
            means.copy_(torch.special.ndtri(quantiles))
            sigmas.fill_(math.log(share / (1 - share)))

    def forward(self, hidden: Float[Tensor, "n d"]) -> LogNormalMixture:
        raw = self.out(torch.tanh(self.hidden(hidden))).unflatten(-1, (3, self.components))
        log_weights, means = F.log_softmax(raw[:, 0], -1), raw[:, 1]
        if self.plain:
            return LogNormalMixture(log_weights, means, F.softplus(raw[:, 2]))
        loc, scale, log_floor, log_cap = self.statistics
        sigmas = torch.exp(log_floor + (log_cap - log_floor) * torch.sigmoid(raw[:, 2]))
        return LogNormalMixture(log_weights, means * scale + loc, sigmas)


class EventModel(nn.Module):
    """Encoder, mixture head and mark head.

    Args:
        n_marks: size of the mark vocabulary; 1 = unmarked, no mark head.
        statistics: of the training gaps, in the unit that gaps and times come in.
        attention: a registered name or a class; the others as in `Backbone`.
        components: of the mixture (base code: 8).
        gap_input: also show the encoder the standardised log gap before each event. With the time code alone a network
            must find the last gaps as differences of phases; on Hawkes that closed a third of the way to the truth,
            with the gap nine tenths.

    Raises:
        ValueError: a size that cannot be; the message names the option.
    """

    time_scale: Tensor

    def __init__(
        self,
        *,
        n_marks: int,
        statistics: GapStatistics,
        attention: str | type[Attention],
        d_model: int,
        n_layers: int,
        n_heads: int,
        d_ff: int,
        dropout: float,
        activation: str = "gelu",
        components: int = 8,
        sigma_floor: float = 0.02,
        sigma_cap: float = 3.0,
        gap_input: bool = False,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.n_marks = n_marks
        self.time_code = TimeCode(d_model)
        self.mark_embedding = nn.Embedding(n_marks, d_model)
        self.backbone = Backbone(
            attention,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            dropout=dropout,
            norm="post",
            norm_eps=1e-6,
            activation=activation,
            qkv_bias=False,
            mask_output=True,
            final_norm=False,
        )
        self.gap_head = MixtureHead(d_model, components, statistics, sigma_floor, sigma_cap, plain)
        self.mark_head = nn.Linear(d_model, n_marks) if n_marks > 1 else None
        self.gap_embedding = nn.Linear(2, d_model, bias=False) if gap_input else None
        # the base code feeds times as they are; ours are counted in median gaps
        scale = 1.0 if plain else statistics.median
        self.register_buffer("time_scale", torch.tensor(scale, dtype=torch.float64))

    def tokens(
        self, times: Float[Tensor, "..."], marks: Int[Tensor, "..."], gaps: Float[Tensor, "..."]
    ) -> Float[Tensor, "... d"]:
        """What is added before every layer; `gaps` since the event before, 0 at a sequence's first."""
        dtype = self.mark_embedding.weight.dtype
        tokens = self.time_code(times / self.time_scale, dtype) + self.mark_embedding(marks)
        if self.gap_embedding is None:
            return tokens
        follows = gaps > 0
        loc, scale = self.gap_head.statistics[:2]
        size = (torch.where(follows, gaps, 1.0).log().to(dtype) - loc) / scale
        return tokens + self.gap_embedding(torch.stack((torch.where(follows, size, 0.0), follows.to(dtype)), -1))

    def forward(
        self, times: Float[Tensor, "B N"], marks: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N d"]:
        """Row i of the output knows events 0 .. i and gives the law of event i + 1."""
        gaps = F.pad(times[:, 1:] - times[:, :-1], (1, 0))
        return self.encode(self.tokens(times, marks, gaps), valid)[0]

    def encode(
        self, tokens: Float[Tensor, "B N d"], valid: Bool[Tensor, "B N"], state: State | None = None
    ) -> tuple[Float[Tensor, "B N d"], State]:
        """All tokens at once, continuing from `state`."""
        return self.backbone(torch.zeros_like(tokens), valid, state, inject=tokens)

    def mark_logits(self, hidden: Float[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """Unnormalised log P(mark), independent of the gap given the history."""
        if self.mark_head is None:
            return hidden.new_zeros(hidden.shape[0], 1)
        return self.mark_head(hidden)
