"""Prefix attention on the CPU: the fused kernels as a torch operator."""

from __future__ import annotations

import functools
from typing import no_type_check

import torch
from torch import Tensor

from aaren.ops.operator import FusedOperator, empty_like
from aaren.ops.state import PrefixState


@no_type_check
def _forward(scores, values, valid, m, u, w, gated):
    from aaren.ops import fused

    batch, heads, _, dim = values.shape
    start = fused.Triple.empty(batch, heads, dim)
    if m is not None:
        # A copy: the kernels turn it into the last state, and the caller's stays as it is.
        owned = (tensor.clone(memory_format=torch.contiguous_format).numpy() for tensor in (m, u, w))
        start = fused.Triple(*owned, start.arrays[3])
    out = empty_like(values)
    gates = scores.new_empty(scores.shape if gated else (0, 0, 0))
    state = fused.forward(scores, values, valid, start, out, gates)
    return (out, *(torch.from_numpy(array) for array in state.arrays), gates)


@no_type_check
def _sweep(values, valid, out, gates, d_out, big_g, big_h):
    from aaren.ops import fused

    d_scores, d_values = gates.new_empty(gates.shape), empty_like(values)
    from_right = big_g.contiguous().numpy(), big_h.contiguous().numpy()
    left = fused.backward(values, valid, out, gates, d_out, from_right, d_scores, d_values)
    return d_scores, d_values, torch.from_numpy(left[0]), torch.from_numpy(left[1])


_operator = FusedOperator("prefix_attention", "cpu", _forward, _sweep, device_types="cpu")


@functools.cache
def failure(dtype: torch.dtype) -> str | None:
    """Why the kernels cannot serve this dtype of sums here, or None when they can; tried once a process."""
    return _operator.failure(torch.ones(1, 1, 2, 1, dtype=dtype))


@no_type_check
def fused_cpu(
    scores: Tensor, values: Tensor, state: PrefixState | None = None, valid: Tensor | None = None
) -> tuple[Tensor, PrefixState]:
    """`prefix_attention` by the fused kernels; half precision is widened to float32 and summed in float64."""
    dtype = values.dtype
    if dtype in (torch.float16, torch.bfloat16):
        scores, values = scores.float(), values.float()
    out, state = _operator(scores, values, state, valid)
    return out.to(dtype), state
