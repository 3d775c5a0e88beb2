"""Aaren and causal self-attention behind one interface (paper, section 3).

Shapes: B batch, N tokens, d model width, H heads, D = d / H.

Both modules own the projections W_q, W_k, W_v, W_o.  They differ in the query: a Transformer makes one
from every token, Aaren has one learned vector per layer, so that a token's score depends on that token
alone, and softmax attention over every prefix becomes a scan with a state of constant size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aaren._typing import Bool, Float
from aaren.cache import KeyValueCache
from aaren.dropout import Dropout
from aaren.fused_step import Attend, AttendCached
from aaren.linear import Linear, linear
from aaren.ops import PrefixState, initial_prefix_state, prefix_attention, prefix_step
from aaren.quick import Remembered, remembered, serves
from aaren.reading import Read, at_tokens
from aaren.registry import register_attention


class Attention(nn.Module):
    """The interface: N inputs to N outputs, causal, in parallel or token by token.

    `valid` is True for real tokens.  An invalid token contributes nothing, and what the heads give for
    it is exactly zero (before the output projection); a row whose `valid_t` is False keeps its state.
    `step` may consume the state it is given: whoever needs it again calls `State.clone()` first.
    `read` says at which tokens the output is wanted (None: at all); a class of one's own may leave it out, and the
    `Block` picks the tokens itself.

    Args:
        d_model: width of the tokens.
        n_heads: number of heads; must divide `d_model`.
        dropout: acts on what the heads give, before W_o, for every attention alike (a scan has no
            weight matrix to drop from, and a comparison must be equal).
        qkv_bias: whether W_q, W_k and W_v have biases.

    Raises:
        ValueError: `n_heads` does not divide `d_model`, or `dropout` is outside [0, 1).
    """

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0, qkv_bias: bool = True) -> None:
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide d_model={d_model}; choose a divisor")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout={dropout} is outside [0, 1)")
        self.d_model, self.n_heads, self.d_head = d_model, n_heads, d_model // n_heads
        self.w_v = Linear(d_model, d_model, bias=qkv_bias)
        self.w_o = Linear(d_model, d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: Any = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], Any]:
        """All tokens at once, continuing from `state` if one is given."""
        raise NotImplementedError(f"{type(self).__name__} has no parallel form")

    def step(
        self, x_t: Float[Tensor, "B d"], state: Any, valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], Any]:
        """One token."""
        raise NotImplementedError(f"{type(self).__name__} has no step form")

    def initial_state(self, batch: int) -> Any:
        """The state of `batch` streams that have seen nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no state")

    def split_heads(self, x: Float[Tensor, "B N d"]) -> Float[Tensor, "B H N D"]:
        """[B, N, H*D] as [B, H, N, D]."""
        return x.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)

    def merge_heads(self, heads: Float[Tensor, "B H N D"], read: Read = None) -> Float[Tensor, "B R d"]:
        """Dropout and the output projection on what the heads give at the tokens of `read`."""
        return self.w_o(self.dropout(at_tokens(heads.transpose(1, 2), read).flatten(-2)))


@register_attention("aaren")
class Aaren(Attention):
    """[A]ttention [a]s a [re]current neural [n]etwork.

    The score of token i at head h is dot(W_q,h q + b_q,h, W_k,h x_i + b_k,h) / sqrt(D) with a learned
    q.  The query does not depend on the input, so it is folded into the keys: one vector a head, made
    once a call, replaces the key and query projection of every token.  b_k adds the same number to
    every score, which softmax cancels: it stays for the parameter count of the paper (d_model more than
    a Transformer) and in the graph with an exactly zero gradient.
    """

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0, qkv_bias: bool = True) -> None:
        super().__init__(d_model, n_heads, dropout=dropout, qkv_bias=qkv_bias)
        self.query = nn.Parameter(torch.randn(d_model))  # the scale of a normalised token
        self.w_q = Linear(d_model, d_model, bias=qkv_bias)
        self.w_k = Linear(d_model, d_model, bias=qkv_bias)
        self._remembered = Remembered()

    def train(self, mode: bool = True) -> Aaren:
        """As every module's; what was remembered of the parameters is forgotten with the change of mode."""
        self._remembered.value = None
        return super().train(mode)

    def fold_query(self) -> Float[Tensor, "d H"]:
        """U with U[:, h] = W_k,h^T (W_q q + b_q)_h / sqrt(D), so that scores = x @ U."""
        query = self.w_q(self.query).view(self.n_heads, 1, self.d_head)  # [H, 1, D]
        keys = self.w_k.weight.view(self.n_heads, self.d_head, self.d_model)  # [H, D, d]
        return (query @ keys).squeeze(1).T / math.sqrt(self.d_head)

    def scores(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... H"]:
        """One number per token and head; a token's score depends on that token alone."""
        return x @ self.fold_query()

    def project(self) -> tuple[Float[Tensor, "dH d"], Float[Tensor, " dH"] | None]:
        """Weight and bias of the one linear map that gives a token's values and, below them, its scores."""
        weight = torch.cat([self.w_v.weight, self.fold_query().T])
        if self.w_k.bias is None:
            return weight, None
        # What softmax cancels stays in the graph: b_k has a gradient, exactly zero, and DDP needs no special case.
        return weight, torch.cat([self.w_v.bias, 0.0 * self.w_k.bias[: self.n_heads]])

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: PrefixState | None = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], PrefixState]:
        self._remembered.value = None  # gradients may follow, and an optimiser's step after them
        values, scores = linear(x, *self.project()).split([self.d_model, self.n_heads], -1)
        heads, state = prefix_attention(scores.transpose(1, 2), self.split_heads(values), state=state, valid=valid)
        return self.merge_heads(heads, read), state

    def step(
        self, x_t: Float[Tensor, "B d"], state: PrefixState, valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], PrefixState]:
        attend = self._attend_once()
        if attend is not None and attend.serves and serves(x_t):
            heads = attend(x_t, state, valid_t)
            if heads is not None:
                return heads, state
        weight, bias = self.project() if attend is None else (attend.weight, attend.bias)
        values, scores = F.linear(x_t, weight, bias).split([self.d_model, self.n_heads], -1)
        values = values.unflatten(-1, (self.n_heads, self.d_head))  # [B, H, D]
        heads, state = prefix_step(scores, values, state, valid=valid_t)
        return self.w_o(self.dropout(heads.flatten(-2))), state

    def _attend_once(self) -> Attend | None:
        """The projection, remembered while a stream runs: in evaluation, without gradients, until a parameter changes.

        Only a stream's step may remember: `_version` does not count the steps of a fused optimiser, and whatever
        trains between two steps of a stream goes through `train` or `forward`.
        """
        forgetful = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if forgetful or torch.is_autocast_enabled(self.query.device.type):
            self._remembered.value = None
            return None
        attend = remembered(self._remembered, Attend, self)
        return attend if attend.plain else None

    def initial_state(self, batch: int) -> PrefixState:
        return initial_prefix_state(batch, self.n_heads, self.d_head, device=self.query.device)


@register_attention("transformer")
class CausalSelfAttention(Attention):
    """Causal multi-head softmax attention with fused kernels and a preallocated key/value cache."""

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0, qkv_bias: bool = True) -> None:
        super().__init__(d_model, n_heads, dropout=dropout, qkv_bias=qkv_bias)
        self.w_q = Linear(d_model, d_model, bias=qkv_bias)
        self.w_k = Linear(d_model, d_model, bias=qkv_bias)
        self._remembered = Remembered()

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: KeyValueCache | None = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], KeyValueCache]:
        queries, keys, values = (self.split_heads(w(x)) for w in (self.w_q, self.w_k, self.w_v))
        if state is None:
            state = KeyValueCache(keys, values, valid, length=x.shape[1])
            if valid is None or _only_right_padded(valid):  # no real token sees what is padded on the right
                heads = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
                return self.merge_heads(_zero_invalid(heads, valid), read), state
        else:
            state = state.append(keys, values, valid)
        mask = state.causal_mask(x.shape[1])
        heads = F.scaled_dot_product_attention(queries, state.keys_seen, state.values_seen, attn_mask=mask)
        return self.merge_heads(_zero_invalid(heads, valid), read), state

    def step(
        self, x_t: Float[Tensor, "B d"], state: KeyValueCache, valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], KeyValueCache]:
        if not self.training and serves(x_t):
            attend = remembered(self._remembered, AttendCached, self)
            done = attend(x_t, state, valid_t) if attend.serves else None
            if done is not None:
                return done
        valid = None if valid_t is None else valid_t[:, None]
        queries, keys, values = (self.split_heads(w(x_t)[:, None]) for w in (self.w_q, self.w_k, self.w_v))
        state = state.append(keys, values, valid)
        mask = None if state.valid is None else state.causal_mask(1)
        heads = F.scaled_dot_product_attention(queries, state.keys_seen, state.values_seen, attn_mask=mask)
        return self.merge_heads(_zero_invalid(heads, valid))[:, 0], state

    def initial_state(self, batch: int) -> KeyValueCache:
        return KeyValueCache.empty(batch, self.n_heads, self.d_head, like=self.w_k.weight)


def _zero_invalid(heads: Float[Tensor, "B H N D"], valid: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B H N D"]:
    """The heads' outputs with invalid tokens exactly zero (also where the softmax had nothing to look at)."""
    return heads if valid is None else torch.where(valid[:, None, :, None], heads, heads.new_zeros(()))


def _only_right_padded(valid: Bool[Tensor, "B N"]) -> bool:
    """Whether every row is real tokens first, padding after; unknown, so False, inside a compiled graph."""
    return not torch.compiler.is_compiling() and bool((valid[:, :-1] >= valid[:, 1:]).all())
