"""Queries made from the token itself: what a score can say when it is more than a projection of its token.

Not from the paper: an answer to its readers, who asked whether one learned query is enough (issue 5 of this project).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aaren._typing import Bool, Float
from aaren.attention import Attention
from aaren.linear import Linear
from aaren.ops import PrefixState, initial_prefix_state, prefix_attention, prefix_step
from aaren.reading import Read
from aaren.registry import register_attention

COMBINATIONS = ("learned", "sum", "mean")


@register_attention("aaren_queries")
class AarenQueries(Attention):
    """Aaren whose token i makes n queries of its own; they meet key i and no other.

    A network of one hidden layer, d -> d/4 -> n*d, gives the queries q_1..q_n of token i; p_m = dot(q_m, k_i) / sqrt(D)
    at each head. The score is their `sum`, their `mean`, or, `learned`, sum_m c_m GELU(p_m) with weights c a head. Sum
    and mean are linear in the queries, so that n of them can say no more than one; the learned combination can.

    Aaren's score is linear in its token, this one is not: it can ask for two features at once. It still depends on
    token i alone, so operator, state and stream are Aaren's, and so is the limit: what a later token wants to look up
    cannot change the weight of an earlier one. For four queries the network has 1.25 times the weights of W_q.

    Other sizes are a subclass registered under a name of its own, which a configuration can then ask for:

        @register_attention("two_queries")
        class TwoQueries(AarenQueries):
            def __init__(self, d_model, n_heads, **options):
                super().__init__(d_model, n_heads, n_queries=2, combine="mean", **options)

    Args:
        d_model, n_heads, dropout, qkv_bias: see `Attention`.
        n_queries: n, queries a token and head.
        combine: `learned`, `sum` or `mean`.

    Raises:
        ValueError: `n_queries` below 1, another `combine`, or what `Attention` refuses.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        n_queries: int = 4,
        combine: str = "learned",
    ) -> None:
        super().__init__(d_model, n_heads, dropout=dropout, qkv_bias=qkv_bias)
        if n_queries < 1:
            raise ValueError(f"n_queries={n_queries}: a token needs at least one query")
        if combine not in COMBINATIONS:
            raise ValueError(f"combine={combine!r}; choose one of {', '.join(COMBINATIONS)}")
        self.n_queries, self.combine = n_queries, combine
        hidden = max(1, d_model // 4)
        self.w_hidden = Linear(d_model, hidden, bias=qkv_bias)
        self.w_q = Linear(hidden, n_queries * d_model, bias=qkv_bias)
        self.w_k = Linear(d_model, d_model, bias=qkv_bias)
        # Of either sign from the start: a product may count for a token or against it.
        self.weights = nn.Parameter(torch.randn(n_heads, n_queries)) if combine == "learned" else None

    def scores(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... H"]:
        """One number per token and head; a token's score depends on that token alone."""
        keys = self.w_k(x).unflatten(-1, (self.n_heads, 1, self.d_head))
        queries = self.w_q(F.gelu(self.w_hidden(x))).unflatten(-1, (self.n_heads, self.n_queries, self.d_head))
        products = (queries * keys).sum(-1) / math.sqrt(self.d_head)  # [..., H, n]
        if self.weights is not None:
            return (self.weights * F.gelu(products)).sum(-1)
        return products.sum(-1) if self.combine == "sum" else products.mean(-1)

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: PrefixState | None = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], PrefixState]:
        values, scores = self.split_heads(self.w_v(x)), self.scores(x).transpose(1, 2)
        heads, state = prefix_attention(scores, values, state=state, valid=valid)
        return self.merge_heads(heads, read), state

    def step(
        self, x_t: Float[Tensor, "B d"], state: PrefixState, valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], PrefixState]:
        values = self.w_v(x_t).unflatten(-1, (self.n_heads, self.d_head))  # [B, H, D]
        heads, state = prefix_step(self.scores(x_t), values, state, valid=valid_t)
        return self.w_o(self.dropout(heads.flatten(-2))), state

    def initial_state(self, batch: int) -> PrefixState:
        return initial_prefix_state(batch, self.n_heads, self.d_head, device=self.w_v.weight.device)
