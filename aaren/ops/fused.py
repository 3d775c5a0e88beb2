"""The fused kernels on torch tensors: memory layouts, and how a call is cut into parts for several threads.

Threads claim rows: one that starts late, or that another program keeps from its core, leaves its own to the others.
Where rows are few, each is cut into one segment more than threads, and there are two rounds. In the first, one thread
makes the outputs (backward: the gradients) of the first segment while the others only sum up the next ones; the
second, knowing the state before each, makes the outputs of all the others. The last one's sum nobody needs.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import Tensor

from aaren.ops import backward_kernels, kernels
from aaren.ops.kernels import NONE
from aaren.ops.threads import call, even_parts, worth
from aaren.ops.vectors import HIDDEN, KEPT, STREAMED

SMALL = 1 << 17  # elements of the values a thread, below which another costs more than it saves
LARGE = 28 << 20  # bytes of a call's large tensors that leave its outputs no room in a last cache of 32 MiB
SHARES = 4  # parts of the rows a thread
SUMMARY = 0.8  # time of the sums of n tokens over the time of their outputs (measured: 0.7 to 0.9)
SUMMARY_BACKWARD = 0.65  # the same of gradients (measured: 0.6 to 0.7)

_NO_MASK = np.ones((0, 0), bool)


def flat(tensor: Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Memory of a tensor as a flat array, and (offset, stride of batch, head, token); no copy if rows are whole."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_contiguous() and tensor.numel():
        return tensor.numpy().reshape(-1), (0, *tensor.stride()[:3])
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
    return (_NO_MASK, False) if valid is None else (valid.contiguous().numpy(), True)


def threads_for(values: Tensor) -> int:
    return worth(values.numel(), SMALL)


Carry = tuple[np.ndarray, np.ndarray]


class Triple:
    """State arrays m, u [B, H], w [B, H, D], and top [B, H], the token whose score is m (-1: none of these)."""

    def __init__(self, m: np.ndarray, u: np.ndarray, w: np.ndarray, top: np.ndarray) -> None:
        self.arrays = (m, u, w, top)

    @classmethod
    def empty(cls, batch: int, heads: int, dim: int) -> Triple:
        m, top = np.full((batch, heads), -np.inf), np.full((batch, heads), -1)
        return cls(m, np.zeros((batch, heads)), np.zeros((batch, heads, dim)), top)


def forward(scores: Tensor, values: Tensor, valid: Tensor | None, start: Triple, out: Tensor, gates: Tensor) -> Triple:
    """Fill `out` like values, and `gates` [B, H, N] unless it is empty; turns `start` into the last state, returned."""
    threads, how = threads_for(values), how_written(out)
    rounds = parts_of(values, threads, how, SUMMARY)
    inputs = (*flat(scores), *flat(values), *mask(valid))
    results = (*flat(out), gates.numpy(), gates.numel() > 0)
    call(kernels.forward, threads, inputs, start.arrays, results, heads_together(values), rounds)
    return start


def parts_of(values: Tensor, threads: int, how: int, summary: float, *, from_right: bool = False) -> np.ndarray:
    """What a call is cut into, [rounds, parts, 7] as the kernels take it.

    Args:
        summary: time of the sums of n tokens over the time of their outputs.
        from_right: segments are numbered from the last token.
    """
    batch, heads, length, _ = values.shape
    rows = batch * heads
    cuts = segments(length, threads, summary) if rows * (1 + summary) < threads + summary else []
    if len(cuts) <= threads:
        shares = row_parts(batch, heads, threads, heads_together(values))
        return np.array([[(*share, 0, length, 0, 0, how) for share in shares]])
    if from_right:
        cuts = [(length - stop, length - first) for first, stop in cuts]
    first = [(0, rows, *cuts[0], 0, 1, how), *((0, rows, *cuts[i], NONE, i + 1, HIDDEN) for i in range(1, threads))]
    second = [(0, rows, *cuts[i], i, NONE if i < threads else i + 1, how) for i in range(1, threads + 1)]
    return np.array([first, second])


def segments(length: int, threads: int, summary: float) -> list[tuple[int, int]]:
    """Token ranges, one more than threads; the first is shorter: its outputs are made beside mere sums."""
    # In plain numbers: where large tensors have just passed through the caches, these lines by numpy took 70 us.
    share = length / (summary + threads)
    edges = sorted({0, length, *(int((summary + i) * share) for i in range(threads))})
    return list(pairwise(edges))


def row_parts(batch: int, heads: int, threads: int, together: int) -> list[tuple[int, int]]:
    """(first, stop) of the rows that are claimed at once; all of them for one thread."""
    rows = batch * heads
    if threads == 1:
        return [(0, rows)]
    if together == 1:
        return even_parts(rows, SHARES * threads)
    if batch < threads:  # two threads at work inside the same tokens: each on as many of its heads as can be
        return even_parts(rows, threads)
    return [(first * heads, stop * heads) for first, stop in even_parts(batch, SHARES * threads)]


def how_written(out: Tensor, tensors: int = 2) -> int:
    """Past the caches where they could not hold so many tensors like the outputs and rows are whole cache lines."""
    if tensors * out.nbytes < LARGE:
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
    threads = threads_for(values)
    rounds = parts_of(values, threads, how_written(d_values, 4), SUMMARY_BACKWARD, from_right=True)
    inputs = (*flat(values), *mask(valid), *flat(out), gates.numpy(), *flat(d_out))
    results = (d_scores.numpy(), *flat(d_values))
    call(backward_kernels.backward, threads, inputs, from_right, results, heads_together(values), rounds)
    return from_right
