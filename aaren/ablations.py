"""Two attentions that show what the learned query adds: uniform scores, and no mixing at all.

`CausalMean` is also the example of adding a backbone: a class, a decorator, three methods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aaren._typing import Bool, Float
from aaren.attention import Attention
from aaren.ops import PrefixState, initial_prefix_state, prefix_attention, prefix_step
from aaren.reading import Read, at_tokens
from aaren.registry import register_attention


@register_attention("mean")
class CausalMean(Attention):
    """Aaren with every score equal: output k is the mean of v_1..v_k.  No query, no W_q, no W_k."""

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: PrefixState | None = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], PrefixState]:
        values = self.split_heads(self.w_v(x))  # [B, H, N, D]
        scores = values.new_zeros(values.shape[:3])
        heads, state = prefix_attention(scores, values, state=state, valid=valid)
        return self.merge_heads(heads, read), state

    def step(
        self, x_t: Float[Tensor, "B d"], state: PrefixState, valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], PrefixState]:
        values = self.w_v(x_t).unflatten(-1, (self.n_heads, self.d_head))  # [B, H, D]
        heads, state = prefix_step(values.new_zeros(values.shape[:2]), values, state, valid=valid_t)
        return self.w_o(self.dropout(heads.flatten(-2))), state

    def initial_state(self, batch: int) -> PrefixState:
        return initial_prefix_state(batch, self.n_heads, self.d_head, device=self.w_v.weight.device)


@register_attention("none")
class NoMixing(Attention):
    """Every token keeps to itself: W_o W_v x.  What the family's embeddings and MLPs can do alone."""

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: tuple[()] | None = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], tuple[()]]:
        values, valid = self.w_v(at_tokens(x, read)), at_tokens(valid, read)
        if valid is not None:
            values = torch.where(valid[..., None], values, values.new_zeros(()))
        return self.w_o(self.dropout(values)), ()

    def step(
        self, x_t: Float[Tensor, "B d"], state: tuple[()], valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], tuple[()]]:
        y, state = self.forward(x_t[:, None], None if valid_t is None else valid_t[:, None])
        return y[:, 0], state

    def initial_state(self, batch: int) -> tuple[()]:
        return ()
