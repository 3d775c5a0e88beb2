"""What a stream's step does with plain modules: the block around any attention, Aaren's own part and the Transformer's.

Each remembers views of its module's parameters (`quick.Plain`), and Aaren's the product that is made of them.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aaren import quick
from aaren.cache import KeyValueCache
from aaren.ops.state import PrefixState
from aaren.reading import Read


def _few(rows: int, weights: int) -> bool:
    return rows == 1 or rows * weights <= quick.FEW


def _arrays(weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """A linear map's memory; zeros for a bias that is not there."""
    return weight.detach().numpy(), np.zeros(len(weight), np.float32) if bias is None else bias.detach().numpy()


class Feed(quick.Plain):
    """A block's residuals, norms and MLP."""

    def __init__(self, block: Any) -> None:
        super().__init__(block, ("up", "down"), ("norm_attention", "norm_mlp"), ("dropout", "hidden_dropout"))
        self.serves = self.serves and None not in self.tensors.values()
        if not self.serves:
            return
        self.width, self.pre_norm, self.gelu = block.attention.d_model, block.pre_norm, block.activation == "gelu"
        part: dict[str, Any] = self.tensors
        self.eps = block.norm_attention.eps, block.norm_mlp.eps
        self.norm, self.norm_mlp = ((part[f"{n}.weight"], part[f"{n}.bias"]) for n in ("norm_attention", "norm_mlp"))
        self.up, self.down = ((part[f"{n}.weight"], part[f"{n}.bias"]) for n in ("up", "down"))
        self.weights = self.up[0].numel() + self.down[0].numel()
        norm, norm_mlp, up, down = (
            [t.detach().numpy() for t in pair] for pair in (self.norm, self.norm_mlp, self.up, self.down)
        )
        self.arrays = *norm, self.eps[0], *up, *down, *norm_mlp, self.eps[1], self.pre_norm, self.gelu

    def before(self, x: Tensor) -> Tensor:
        """What the attention is given."""
        return torch.layer_norm(x, (self.width,), *self.norm, self.eps[0]) if self.pre_norm else x

    @no_type_check
    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What the block makes of x and of what the attention gave, both [B, d]."""
        rows = x.shape[0]
        if _few(rows, self.weights):
            from aaren.ops import step_kernels

            y = torch.empty_like(x, memory_format=torch.contiguous_format)
            step_kernels.feed(x.contiguous().numpy(), mixed.contiguous().numpy(), *self.arrays, y.numpy())
            return y
        if rows <= quick.ROWS:
            return self._by_library(x, mixed)
        y = torch.empty_like(x)
        for first in range(0, rows, quick.ROWS):
            part = slice(first, first + quick.ROWS)
            y[part] = self._by_library(x[part], mixed[part])
        return y

    def _by_library(self, x: Tensor, mixed: Tensor) -> Tensor:
        shape = (self.width,)
        x = x + mixed
        x = x if self.pre_norm else torch.layer_norm(x, shape, *self.norm, self.eps[0])
        hidden = quick.linear(torch.layer_norm(x, shape, *self.norm_mlp, self.eps[1]) if self.pre_norm else x, *self.up)
        hidden = F.gelu(hidden) if self.gelu else hidden.relu_()
        x = quick.linear(hidden, *self.down).add_(x)
        return x if self.pre_norm else torch.layer_norm(x, shape, *self.norm_mlp, self.eps[1])


class Attend(quick.Plain):
    """Aaren's projection to values and scores, made once, and its step on it."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer, ("w_q", "w_k", "w_v", "w_o"), (), ("dropout",))
        self.hold(layer, "query", "query")
        self._made_of = [t for name, t in self.tensors.items() if t is not None and not name.startswith("w_o")]
        # What was made in inference mode does not count its changes: nothing can be remembered of it.
        self.plain = self.plain and not any(t.is_inference() for t in self._made_of)
        self.serves = self.serves and self.plain
        if not self.plain:
            return
        self._versions = [t._version for t in self._made_of]
        self.weight, self.bias = layer.project()
        self.weights = self.weight.numel()
        self.heads, self.width = layer.n_heads, layer.d_head
        self.out: tuple[Any, Any] = self.tensors["w_o.weight"], self.tensors["w_o.bias"]
        if self.serves:
            self.arrays, self.arrays_out = _arrays(self.weight, self.bias), _arrays(*self.out)

    def still(self) -> bool:
        """As every `Plain`; and the parameters were not written to, so far as torch counts that."""
        return self.plain and [t._version for t in self._made_of] == self._versions and super().still()

    @no_type_check
    def __call__(self, x: Tensor, state: PrefixState, valid: Tensor | None) -> Tensor | None:
        """The attention's output for one token a row [B, d]; writes the state in place (None: it cannot be written)."""
        if not quick.consumable(state, x.shape[0], self.heads, self.width):
            return None
        if not _few(x.shape[0], self.weights):
            projected = quick.linear(x, self.weight, self.bias)[None]
            return quick.linear(quick.absorb(projected, state, valid)[0], *self.out)
        from aaren.ops import step_kernels

        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        m, u, w = state
        mask = (quick.ALL_REAL, False) if valid is None else (valid.contiguous().numpy(), True)
        arrays = m.numpy(), u.numpy(), w.numpy(), *mask
        step_kernels.attend(x.contiguous().numpy(), *self.arrays, *arrays, *self.arrays_out, y.numpy())
        quick.written(state)
        return y

    @no_type_check
    def tokens(self, x: Tensor, state: PrefixState, read: Read) -> Tensor | None:
        """As for one token, for N of each row; x [N, B, d] to the outputs [R, B, d] at the tokens of `read`."""
        if not quick.consumable(state, x.shape[1], self.heads, self.width):
            return None
        projected = quick.linear(x.flatten(0, 1), self.weight, self.bias).unflatten(0, x.shape[:2])
        heads = quick.absorb(projected, state)
        wanted = heads if read is None else heads[read]
        return quick.linear(wanted.flatten(0, 1), *self.out).unflatten(0, wanted.shape[:2])


class AttendCached(quick.Plain):
    """The Transformer's projections and its step on a cache of keys and values."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer, ("w_q", "w_k", "w_v", "w_o"), (), ("dropout",))
        if not self.serves:
            return
        part: dict[str, Any] = self.tensors
        self.maps = [(part[f"{name}.weight"], part[f"{name}.bias"]) for name in ("w_q", "w_k", "w_v")]
        self.out = part["w_o.weight"], part["w_o.bias"]
        self.weights = 3 * self.maps[0][0].numel()
        self.arrays = [array for pair in self.maps for array in _arrays(*pair)]
        self.arrays_out = _arrays(*self.out)

    @no_type_check
    def __call__(self, x: Tensor, state: KeyValueCache, valid: Tensor | None) -> tuple[Tensor, KeyValueCache] | None:
        """The attention's output for one token a row [B, d] and the longer cache; None for a cache it cannot write."""
        if not _writable(state, x):
            return None
        from aaren.ops import step_kernels

        state = state.extended(1, None if valid is None else valid[:, None])
        cache = state.keys.numpy(), state.values.numpy()
        mask = (quick.ALL_REAL[None], False) if state.valid is None else (state.valid.numpy(), True)
        where = *cache, *mask, state.length - 1
        if _few(x.shape[0], self.weights):
            y = torch.empty_like(x, memory_format=torch.contiguous_format)
            step_kernels.attend_cached(x.contiguous().numpy(), *self.arrays, *where, *self.arrays_out, y.numpy())
        else:
            tokens = [quick.linear(x, *pair).numpy() for pair in self.maps]
            heads = torch.empty_like(x, memory_format=torch.contiguous_format)
            work = state.length * heads.numel()
            quick.with_threads(step_kernels.look_back, *tokens, *where, heads.numpy(), work=work)
            y = quick.linear(heads, *self.out)
        quick.written((state.keys, state.values))
        return y, state


def _writable(state: Any, x: Tensor) -> bool:
    """Whether the kernels may write the cache; what does not fit is told by the plain form."""
    if type(state) is not KeyValueCache or len(state.keys) != len(x):
        return False
    for tensor in (state.keys, state.values):
        if type(tensor) is not Tensor or tensor.dtype is not torch.float32 or not tensor.is_cpu:
            return False
        if not tensor.is_contiguous() or tensor.requires_grad or tensor.shape[1] * tensor.shape[3] != x.shape[1]:
            return False
    return True
