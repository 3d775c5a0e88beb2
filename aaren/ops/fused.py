"""The fused kernels on torch tensors: memory layouts, threads over rows, and over tokens when rows are few.

Forward, threads claim rows, or segments of the tokens where that is worth its double work, until none is left: one
that starts late, or that another program keeps from its core, leaves its part to the others.

Backward, a row of N split over tokens takes two passes of `threads` tasks each. The first computes the gradients of
the rightmost segment and only summaries of the middle ones; the second, knowing what follows each segment, computes
the gradients of all the others, the leftmost included, whose summary nobody needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aaren.ops import backward_kernels, kernels
from aaren.ops.threads import even_parts, run_together
from aaren.ops.vectors import KEPT, STREAMED

SMALL = 1 << 19  # elements of the values a thread, below which another costs more than it saves
LINE = 128  # bytes that processors keep together: a cache line and the neighbour that comes with it
LARGE = 1 << 24  # bytes of outputs that, beside the values, find no room in a last cache of 32 MiB
SEGMENT = 1 << 19  # bytes of values that are still in a core's own cache when they are read again
SHARES = 4  # parts of the rows a thread: one that starts late leaves its own to the others
TWICE = 2  # the work of segments over that of whole rows: factors are made twice, and values read twice
SUMMARY_SHARE = 0.5  # time of a summary of n tokens over the time of their outputs (measured: 0.4 to 0.6)


def flat(tensor: Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Memory of a tensor as a flat array, and (offset, stride of batch, head, token); no copy if rows are whole."""
    tensor = tensor.detach()
    if tensor.dim() == 4 and tensor.shape[3] > 1 and tensor.stride(3) != 1:
        tensor = tensor.contiguous()
    if tensor.numel() == 0:
        return np.empty(0, dtype=tensor.new_empty(0).numpy().dtype), (0, 0, 0, 0)
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((span,), (1,)).numpy(), (0, *tensor.stride()[:3])


def heads_together(values: Tensor) -> int:
    """How many heads to advance token by token: all where they lie inside a token in memory, else one."""
    return values.shape[1] if values.stride(1) < values.stride(2) else 1


def mask(valid: Tensor | None) -> tuple[np.ndarray, bool]:
    return (np.ones((0, 0), bool), False) if valid is None else (valid.contiguous().numpy(), True)


def threads_for(values: Tensor) -> int:
    return max(1, min(torch.get_num_threads(), values.numel() // SMALL))


def segments(length: int, threads: int) -> list[tuple[int, int]]:
    """Token ranges, one more than threads; the first is shorter: its outputs are made beside mere summaries."""
    shares = np.cumsum([0.0, SUMMARY_SHARE, *[1.0] * threads])
    edges = np.unique((length * shares / shares[-1]).astype(int)).tolist()
    return list(pairwise(edges))


Carry = tuple[np.ndarray, np.ndarray]


class Triple:
    """State arrays m, u [B, H], w [B, H, D], and top [B, H], the token whose score is m (-1: none of these)."""

    def __init__(self, m: np.ndarray, u: np.ndarray, w: np.ndarray, top: np.ndarray) -> None:
        self.arrays = (m, u, w, top)

    @classmethod
    def empty(cls, batch: int, heads: int, dim: int) -> Triple:
        m, top = np.full((batch, heads), -np.inf), np.full((batch, heads), -1)
        return cls(m, np.zeros((batch, heads)), np.zeros((batch, heads, dim)), top)


def apart(array: np.ndarray) -> np.ndarray:
    """A copy whose cache lines hold nothing else.

    Sums change with every token: two threads with sums in one line took longer than one thread alone.
    """
    room = np.empty(array.nbytes + 2 * LINE, np.uint8)
    first = -room.ctypes.data % LINE
    copy = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def apart_pair(carry: Carry) -> Carry:
    """The same of both arrays of a backward carry."""
    return apart(carry[0]), apart(carry[1])


def gather(
    whole: Sequence[np.ndarray], owned: Sequence[Sequence[np.ndarray]], shares: Sequence[tuple[int, int]]
) -> None:
    """Put the rows that each thread was given, and changed in arrays of its own, back into [B, H, ...] arrays."""
    for arrays, share in zip(owned, shares, strict=True):
        rows = np.divmod(np.arange(*share), whole[0].shape[1])
        for target, source in zip(whole, arrays, strict=True):
            target[rows] = source[rows]


def forward(scores: Tensor, values: Tensor, valid: Tensor | None, start: Triple, out: Tensor, gates: Tensor) -> Triple:
    """Fill `out` like values, and `gates` [B, H, N] unless it is empty; turns `start` into the last state, returned."""
    batch, heads, length, _ = values.shape
    rows, threads, together = batch * heads, threads_for(values), heads_together(values)
    inputs = (*flat(scores), *flat(values), *mask(valid))
    results = (*flat(out), how_written(out), gates.numpy(), gates.numel() > 0)
    size = max(1, SEGMENT // max(1, rows * values.shape[3] * values.element_size()))
    claims = apart(np.zeros(2 * kernels.LINE // 8, np.int64))

    def run(parts: np.ndarray, states: Sequence[np.ndarray], count: int) -> None:
        shared = (claims, parts, size, inputs, tuple(states), results, length, together)
        run_together([partial(kernels.forward, *shared)] * min(threads, count))

    if threads <= max(1, TWICE * rows) or length < 2 * size:
        parts = row_parts(batch, heads, threads, together)
        run(parts, [array[None] for array in start.arrays], len(parts))
        return start
    count = -(-length // size)
    states = [np.empty((count + 1, *array.shape), array.dtype) for array in start.arrays]
    for array, first in zip(states, start.arrays, strict=True):
        array[0] = first
    run(np.empty((0, 2), np.int64), states, count)
    return Triple(*(array[-1].copy() for array in states))


def row_parts(batch: int, heads: int, threads: int, together: int) -> np.ndarray:
    """(first, stop) of the rows that are claimed at once, [parts, 2]; all of them for one thread."""
    rows = batch * heads
    if threads == 1:
        return np.array([[0, rows]])
    if together == 1:
        return np.array(even_parts(rows, SHARES * threads))
    if batch < threads:  # two threads at work inside the same tokens: each on as many of its heads as can be
        return np.array(even_parts(rows, threads))
    return np.array(even_parts(batch, SHARES * threads)) * heads


def how_written(out: Tensor) -> int:
    """Past the caches where they could not hold the outputs beside the values and rows are whole cache lines."""
    if out.nbytes < LARGE:
        return KEPT
    places = (out.data_ptr(), *(out.element_size() * size for size in (*out.stride()[:3], out.shape[3])))
    return KEPT if any(place % kernels.LINE for place in places) else STREAMED


def backward(
    values: Tensor,
    valid: Tensor | None,
    out: Tensor,
    gates: Tensor,
    d_out: Tensor,
    from_right: Carry,
    d_scores: Tensor,
    d_values: Tensor,
) -> Carry:
    """Fill `d_scores` [B, H, N] and `d_values`; the carry is (G [B, H, D], H [B, H]), as in the kernel."""
    batch, heads, length, _ = values.shape
    rows, threads, together = batch * heads, threads_for(values), heads_together(values)
    known = (*flat(out), gates.numpy(), *flat(d_out))
    results = (d_scores.numpy(), *flat(d_values))
    every = (0, rows)

    def gradients(carry: Carry, some_rows: tuple[int, int], tokens: tuple[int, int]) -> Any:
        given = (*flat(values), *mask(valid), *known, *carry)
        return partial(backward_kernels.backward, *given, *results, some_rows, tokens, together)

    def summary(carry: Carry, passing: np.ndarray, tokens: tuple[int, int]) -> Any:
        return partial(
            backward_kernels.summarise_backward, *mask(valid), *known, *carry, passing, every, tokens, together
        )

    carry = from_right  # the caller's own, made for this call
    parts = segments(length, threads) if threads > 1 else [(0, length)]
    if rows >= threads or len(parts) == 1:
        shares = even_parts(rows, threads)
        carries = [carry] if len(shares) == 1 else [apart_pair(carry) for _ in shares]
        run_together([gradients(state, share, (0, length)) for state, share in zip(carries, shares, strict=True)])
        if len(shares) > 1:
            gather(carry, carries, shares)
        return carry
    parts = [(length - stop, length - first) for first, stop in parts]  # from the right, the short one first
    carry = apart_pair(carry)
    middle = [apart_pair((np.zeros_like(carry[0]), np.zeros_like(carry[1]))) for _ in parts[1:-1]]
    passing = [apart(np.ones_like(carry[1])) for _ in middle]
    run_together([gradients(carry, every, parts[0]), *map(summary, middle, passing, parts[1:-1])])
    carries = [carry]
    for (big_g, big_h), factor in zip(middle, passing, strict=True):
        right_g, right_h = carries[-1]
        carries.append(apart_pair((big_g + factor[..., None] * right_g, big_h + factor * right_h)))
    run_together([gradients(carry, every, part) for carry, part in zip(carries, parts[1:], strict=True)])
    return carries[-1]
