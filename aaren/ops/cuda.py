"""Prefix attention on a GPU: the Triton kernels as a torch operator.

Also on the CPU where Triton interprets its kernels (TRITON_INTERPRET=1 before triton is imported): for tests.
"""

from __future__ import annotations

import contextlib
import functools
from typing import no_type_check

import torch

from aaren.ops.operator import FusedOperator, empty_like, sums_dtype
from aaren.ops.plan import Plan, plan_for
from aaren.ops.state import finite_reference


@no_type_check
def _whole(tensor):
    """The tensor, or a copy whose last axis is contiguous, as the kernels expect."""
    return tensor if tensor.stride(3) == 1 or tensor.shape[3] == 1 else tensor.contiguous()


@no_type_check
def _on(tensor):
    """Triton launches on the current device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


@no_type_check
def _bytes(valid, values):
    """The mask as whole rows of bytes; anything, never read, where there is none."""
    return values if valid is None else valid.contiguous().view(torch.uint8)


@no_type_check
def _cut(values, plan: Plan):
    """Segments a row, and the arguments by which every kernel knows its part."""
    batch, heads, tokens, dim = values.shape
    blocks = -(-dim // plan.columns)
    segments = -(-tokens // plan.length)
    return segments, blocks, (heads, tokens, dim, plan.length, blocks, batch * heads)


@no_type_check
def _options(values, valid, plan: Plan):
    import triton.language as tl

    return {
        "C": plan.chunk,
        "BD": plan.columns,
        "ACC": tl.float64 if values.dtype == torch.float64 else tl.float32,
        "MASKED": valid is not None,
        "STAGES": plan.stages,
        "num_warps": plan.warps,
    }


@no_type_check
def _start(m, u, w, sums):
    """The first state as the kernels carry it: m in the dtype of the sums, u moved along, and o = w / u."""
    if m is None:
        return None, None, None
    rounded = m.to(sums).to(m.dtype)
    u = u * torch.exp(finite_reference(m) - finite_reference(rounded))
    o = w * torch.exp(finite_reference(m) - finite_reference(rounded))[..., None]
    return rounded, u, (o / torch.where(u == 0, 1.0, u)[..., None]).contiguous()


@no_type_check
def _forward(scores, values, valid, m, u, w, gated):
    from aaren.ops import triton_forward as kernels

    batch, heads, tokens, dim = values.shape
    sums, options = sums_dtype(values), {"dtype": torch.float64, "device": values.device}
    out = empty_like(values)
    gates = torch.empty((batch, heads, tokens) if gated else (0, 0, 0), dtype=sums, device=values.device)
    last = (
        torch.empty(batch, heads, **options),
        torch.empty(batch, heads, **options),
        torch.empty(batch, heads, dim, **options),
        torch.empty(batch, heads, dtype=torch.int64, device=values.device),
    )
    if batch == 0:
        return (out, *last, gates)
    plan = plan_for(values)
    segments, blocks, shape = _cut(values, plan)
    s, v, seen = scores, _whole(values), _bytes(valid, values)
    given = _options(values, valid, plan)
    start = _start(m, u, w, sums)
    summaries = (None, None, None, None)
    with _on(values):
        if segments > 1:
            count = (batch * heads, segments - 1)
            summaries = (
                torch.empty(count, dtype=sums, device=values.device),
                torch.empty(count, **options),
                torch.empty(*count, dim, **options),
                torch.empty(count, dtype=torch.int32, device=values.device),
            )
            kernels.summarise[blocks * count[0] * count[1],](
                s, v, seen, *summaries, *shape, segments - 1, *s.stride(), *v.stride()[:3], **given
            )
        kernels.forward[blocks * batch * heads * segments,](
            s, v, seen, *start, *summaries, out, gates, *last, *shape, segments - 1,
            *s.stride(), *v.stride()[:3], *out.stride()[:3], GATED=gated, **given,
        )  # fmt: skip
    return (out, *last, gates)


@no_type_check
def _sweep(values, valid, out, gates, d_out, big_g, big_h):
    from aaren.ops import triton_backward as kernels

    batch, heads, tokens, dim = values.shape
    d_values = empty_like(values)
    if batch == 0:
        return gates.new_empty(gates.shape), d_values, big_g, big_h
    plan = plan_for(values, backward=True)
    segments, blocks, shape = _cut(values, plan)
    rows = batch * heads
    v, do, seen = _whole(values), _whole(d_out), _bytes(valid, values)
    given = _options(values, valid, plan)
    d_scores = gates.new_empty(blocks, batch, heads, tokens)
    left_g, left_h = torch.empty_like(big_g), big_h.new_empty(batch, heads, blocks)
    summaries = (None, None, None, None)
    with _on(values):
        if segments > 1:
            summaries = (
                big_g.new_empty(rows, segments, dim),
                big_g.new_empty(rows, segments, blocks),
                big_g.new_empty(rows, segments),
                torch.empty_like(d_scores),
            )
            kernels.summarise_backward[blocks * rows * segments,](
                seen, out, gates, do, *summaries, *shape, segments, *out.stride()[:3], *do.stride()[:3], **given
            )
        kernels.backward[blocks * rows * segments,](
            v, seen, out, gates, do, big_g.contiguous(), big_h.contiguous(), *summaries,
            d_values, d_scores, left_g, left_h, *shape, segments,
            *v.stride()[:3], *out.stride()[:3], *do.stride()[:3], *d_values.stride()[:3], **given,
        )  # fmt: skip
    return (d_scores[0] if blocks == 1 else d_scores.sum(0)), d_values, left_g, left_h.sum(-1)


fused_cuda = FusedOperator("prefix_attention_cuda", "cuda", _forward, _sweep)


def interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU in this process."""
    try:
        from triton import JITFunction

        from aaren.ops import triton_forward
    except ImportError:
        return False
    return not isinstance(triton_forward.forward, JITFunction)


@functools.cache
def failure(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the kernels cannot serve this dtype on this device, or None when they can; tried once a process."""
    if device.type != "cuda" and not interpreted():
        return "they run on CUDA tensors only"
    return fused_cuda.failure(torch.ones(1, 1, 2, 1, dtype=dtype, device=device))
