"""A causal stack of any registered attention: h^(0) = x, h^(j+1) = Block_j(h^(j)) (paper, section 3).

Shapes: B batch, N tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aaren._typing import Bool, Float
from aaren.attention import Attention
from aaren.dropout import Dropout
from aaren.fused_step import Feed
from aaren.linear import Linear
from aaren.quick import Remembered, remembered, serves
from aaren.reading import Read, at_tokens, check_read, knows_read
from aaren.registry import attention_class
from aaren.state import State

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}
NORMS = ("post", "pre")


class Block(nn.Module):
    """Attention and MLP, each with dropout, a residual and a LayerNorm.

    post-norm: x <- norm(x + f(x)) (all three base codes); pre-norm: x <- x + f(norm(x)).

    Args:
        attention: built by the caller for width `d_model`.
        d_ff: hidden width of the MLP.
        dropout: on what each sublayer gives.
        hidden_dropout: inside the MLP, after the activation (the forecasting base code has it, the RL
            one has not).
        mask_output: zero the invalid rows after each sublayer (the event base code does).
    """

    def __init__(
        self,
        attention: Attention,
        d_ff: int,
        *,
        dropout: float = 0.1,
        hidden_dropout: float = 0.0,
        norm: str = "post",
        norm_eps: float = 1e-5,
        activation: str = "gelu",
        mask_output: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r}: choose one of {', '.join(NORMS)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        if d_ff < 1:
            raise ValueError(f"d_ff={d_ff} must be at least 1")
        d_model = attention.d_model
        self.attention, self._attention_reads = attention, knows_read(attention)
        self.norm_attention = nn.LayerNorm(d_model, eps=norm_eps)
        self.norm_mlp = nn.LayerNorm(d_model, eps=norm_eps)
        self.up, self.down = Linear(d_model, d_ff), Linear(d_ff, d_model)
        self.dropout, self.hidden_dropout = Dropout(dropout), Dropout(hidden_dropout)
        self.activation, self.pre_norm, self.mask_output = activation, norm == "pre", mask_output
        self._remembered = Remembered()

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: Any = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], Any]:
        """All tokens at once; what follows the mixing of tokens only at those of `read`."""

        def attend(h: Tensor) -> tuple[Tensor, Any]:
            if read is None:
                return self.attention(h, valid, state)
            if self._attention_reads:
                return self.attention(h, valid, state, read=read)
            mixed, new_state = self.attention(h, valid, state)
            return at_tokens(mixed, read), new_state

        return self._around(attend, x, valid, read)

    def step(
        self, x_t: Float[Tensor, "B d"], state: Any, valid_t: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B d"], Any]:
        """One token."""
        feed = None if self.training or not serves(x_t) else remembered(self._remembered, Feed, self)
        if feed is None or not feed.serves:
            return self._around(lambda h: self.attention.step(h, state, valid_t), x_t, valid_t)
        mixed, state = self.attention.step(feed.before(x_t), state, valid_t)
        if type(mixed) is not Tensor or mixed.dtype is not x_t.dtype or mixed.shape != x_t.shape:
            return self._around(lambda h: (mixed, state), x_t, valid_t)
        return self._mask(feed.after(x_t, mixed), valid_t), state

    def _around(
        self, attend: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor, valid: Tensor | None, read: Read = None
    ) -> tuple[Tensor, Any]:
        """Norms, residuals, MLP and mask around the attention; the same for all tokens and for one."""
        mixed, state = attend(self.norm_attention(x) if self.pre_norm else x)
        x, valid = at_tokens(x, read), at_tokens(valid, read)
        x = x + self.dropout(mixed)
        x = self._mask(x if self.pre_norm else self.norm_attention(x), valid)
        x = x + self.dropout(self._mlp(self.norm_mlp(x) if self.pre_norm else x))
        return self._mask(x if self.pre_norm else self.norm_mlp(x), valid), state

    def _mlp(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return self.down(self.hidden_dropout(ACTIVATIONS[self.activation](self.up(x))))

    def _mask(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if not self.mask_output or valid is None:
            return x
        return torch.where(valid[..., None], x, x.new_zeros(()))


class Backbone(nn.Module):
    """A stack of `Block`s around one kind of attention, and a final norm where the protocol has one.

    Args:
        attention: a registered name (`attention_names()`), or an `Attention` class.
        d_model, n_layers, n_heads, d_ff: sizes; `n_heads` must divide `d_model`.
        final_norm: a LayerNorm after the last block.
        Others: see `Block` and `Attention`.

    Raises:
        ValueError: an unknown name or an impossible size; the message names the argument.
    """

    def __init__(
        self,
        attention: str | type[Attention] = "aaren",
        *,
        d_model: int,
        n_layers: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        hidden_dropout: float = 0.0,
        norm: str = "post",
        norm_eps: float = 1e-5,
        activation: str = "gelu",
        qkv_bias: bool = True,
        mask_output: bool = False,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"n_layers={n_layers} must be at least 1")
        make = attention_class(attention) if isinstance(attention, str) else attention
        self.d_model = d_model
        self.blocks = nn.ModuleList(
            Block(
                make(d_model, n_heads, dropout=dropout, qkv_bias=qkv_bias),
                d_ff,
                dropout=dropout,
                hidden_dropout=hidden_dropout,
                norm=norm,
                norm_eps=norm_eps,
                activation=activation,
                mask_output=mask_output,
            )
            for _ in range(n_layers)
        )
        self.final_norm = nn.LayerNorm(d_model, eps=norm_eps) if final_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        state: State | None = None,
        inject: Float[Tensor, "B N d"] | None = None,
        read: Read = None,
    ) -> tuple[Float[Tensor, "B R d"], State]:
        """All tokens at once.

        Args:
            x: the tokens.
            valid: True for real tokens (None: all are).
            state: continue from here (None: from nothing).
            inject: added to the input of every layer (the event base code re-adds its time code).
            read: a slice or int64 positions: return the outputs y[:, read] alone, of R tokens. The last block then
                works at these only, once it has mixed all tokens; the state is the same.

        Raises:
            TypeError: `read` is neither a slice nor a one-dimensional int64 tensor.
            IndexError: a position in `read` that no token has.
            ValueError: shapes that do not belong together, no tokens, or a state of another stack.
        """
        self._check(x, valid, inject, ndim=3)
        check_read(read, x.shape[1])
        states = []
        for i, (block, layer_state) in enumerate(zip(self.blocks, self._layers(state), strict=True)):
            wanted = read if i == len(self.blocks) - 1 else None
            x, layer_state = block(x if inject is None else x + inject, valid, layer_state, wanted)
            states.append(layer_state)
        return self.final_norm(x), State(tuple(states))

    def step(
        self,
        x_t: Float[Tensor, "B d"],
        state: State,
        valid_t: Bool[Tensor, " B"] | None = None,
        inject_t: Float[Tensor, "B d"] | None = None,
    ) -> tuple[Float[Tensor, "B d"], State]:
        """One token; may consume `state` (clone it first if it is needed again)."""
        self._check(x_t, valid_t, inject_t, ndim=2)
        states = []
        for block, layer_state in zip(self.blocks, self._layers(state), strict=True):
            assert isinstance(block, Block)
            x_t, layer_state = block.step(x_t if inject_t is None else x_t + inject_t, layer_state, valid_t)
            states.append(layer_state)
        return self.final_norm(x_t), State(tuple(states))

    def initial_state(self, batch: int) -> State:
        """The state of `batch` streams that have seen nothing."""
        return State(tuple(block.attention.initial_state(batch) for block in self.blocks))  # type: ignore[union-attr, operator]

    def _layers(self, state: State | None) -> tuple[Any, ...]:
        if state is None:
            return (None,) * len(self.blocks)
        if len(state.layers) != len(self.blocks):
            raise ValueError(
                f"state of a stack of {len(state.layers)} layers given to one of {len(self.blocks)}; "
                "take it from this backbone's initial_state, forward or step"
            )
        return state.layers

    def _check(self, x: Tensor, valid: Tensor | None, inject: Tensor | None, ndim: int) -> None:
        expected = "[batch, tokens, d_model]" if ndim == 3 else "[batch, d_model]"
        if x.ndim != ndim or x.shape[-1] != self.d_model:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected {expected} with d_model={self.d_model}")
        if ndim == 3 and x.shape[1] == 0:
            raise ValueError("x has no tokens; a sequence needs at least one")
        if valid is not None and (valid.shape != x.shape[:-1] or valid.dtype != torch.bool):
            raise ValueError(
                f"valid has shape {tuple(valid.shape)} and dtype {valid.dtype}, "
                f"expected {tuple(x.shape[:-1])} and torch.bool (True = real token)"
            )
        if inject is not None and inject.shape != x.shape:
            raise ValueError(f"inject has shape {tuple(inject.shape)}, expected that of x, {tuple(x.shape)}")
