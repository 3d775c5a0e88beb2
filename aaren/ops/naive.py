"""The paper, literally: four ways to compute the same prefix attention (sections 3.1 and 3.2).

They are the oracles of the tests, the rivals of the benchmark and the place to start reading. Each takes
scores [B, H, N], values [B, H, N, D], a `PrefixState` of the tokens before (or None) and valid [B, N] (or None),
and returns outputs [B, H, N, D] with the state after the last token. `accumulate` is the dtype of the sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aaren._typing import Bool, Float
from aaren.ops.state import PrefixState, combine, finite_reference, initial_prefix_state, readout

Triple = tuple[Tensor, Tensor, Tensor]


def masked_softmax(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
    *,
    accumulate: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """One softmax a prefix, written as an [N, N] matrix of weights. Time and memory O(N^2)."""
    m, u, w = start = _start(values, state, accumulate)
    s, v = _leaves(scores, values, valid, accumulate)
    length = s.shape[-1]
    future = torch.ones(length, length, dtype=torch.bool, device=s.device).triu(1)
    table = s[..., None, :].masked_fill(future, -torch.inf)  # [B, H, k, i]: score of token i for prefix k
    m = torch.maximum(table.amax(-1), m[..., None])  # [B, H, N]
    reference = finite_reference(m)
    weights = torch.exp(table - reference[..., None])  # exactly 0 for the future and for invalid tokens
    before = torch.exp(start[0][..., None] - reference)  # weight of the carried state in each prefix
    u = weights.sum(-1) + before * u[..., None]
    w = weights @ v + before[..., None] * w[..., None, :]
    return _finish(u, w, valid, values), PrefixState(m[..., -1], u[..., -1], w[..., -1, :])


def recurrence(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
    *,
    accumulate: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """Token by token in O(1) memory (section 3.1)."""
    carry = _start(values, state, accumulate)
    s, v = _leaves(scores, values, valid, accumulate)
    one = torch.ones_like(s[..., 0])
    u_all, w_all = [], []
    for k in range(s.shape[-1]):
        carry = combine(carry, (s[..., k], one, v[..., k, :]))
        u_all.append(carry[1])
        w_all.append(carry[2])
    return _finish(torch.stack(u_all, -1), torch.stack(w_all, -2), valid, values), PrefixState(*carry)


def block_recurrence(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
    *,
    accumulate: torch.dtype = torch.float64,
    block: int = 16,
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """Block by block of b tokens in O(b) memory (section 3.1): the softmax inside a block, the state between."""
    carry = PrefixState(*_start(values, state, accumulate))
    pieces = []
    for first in range(0, scores.shape[-1], block):
        part = slice(first, first + block)
        piece, carry = masked_softmax(
            scores[..., part],
            values[..., part, :],
            carry,
            None if valid is None else valid[:, part],
            accumulate=accumulate,
        )
        pieces.append(piece)
    return torch.cat(pieces, -2), carry


def hillis_steele(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
    *,
    accumulate: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """The paper's parallel scan (section 3.2, after Hillis and Steele): log2(N) rounds, O(N log N) work.

    In the round of distance d = 1, 2, 4, ... token k joins its triple, by then that of tokens k-d+1..k, with
    that of token k-d; the first d tokens have nothing to join.
    """
    s, v = _leaves(scores, values, valid, accumulate)
    triple: Triple = (s, torch.ones_like(s), v)  # [B, H, N], [B, H, N], [B, H, N, D]
    distance = 1
    while distance < s.shape[-1]:
        left = (triple[0][..., :-distance], triple[1][..., :-distance], triple[2][..., :-distance, :])
        right = (triple[0][..., distance:], triple[1][..., distance:], triple[2][..., distance:, :])
        joined = combine(left, right)
        triple = (
            torch.cat([triple[0][..., :distance], joined[0]], -1),
            torch.cat([triple[1][..., :distance], joined[1]], -1),
            torch.cat([triple[2][..., :distance, :], joined[2]], -2),
        )
        distance *= 2
    m, u, w = _start(values, state, accumulate)
    m, u, w = combine((m[..., None], u[..., None], w[..., None, :]), triple)
    return _finish(u, w, valid, values), PrefixState(m[..., -1], u[..., -1], w[..., -1, :])


def _start(values: Tensor, state: PrefixState | None, accumulate: torch.dtype) -> Triple:
    """The carried state, or the empty one, in the dtype of the sums."""
    if state is None:
        batch, heads, _, dim = values.shape
        state = initial_prefix_state(batch, heads, dim, device=values.device)
    return state.m.to(accumulate), state.u.to(accumulate), state.w.to(accumulate)


def _leaves(scores: Tensor, values: Tensor, valid: Tensor | None, accumulate: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scores and values of the leaves (s_i, 1, v_i); an invalid token has score -inf, so weighs exactly 0."""
    s, v = scores.to(accumulate), values.to(accumulate)
    if valid is not None:
        s = s.masked_fill(~valid[:, None, :], -torch.inf)
        v = v.masked_fill(~valid[:, None, :, None], 0)
    return s, v


def _finish(u: Tensor, w: Tensor, valid: Tensor | None, values: Tensor) -> Tensor:
    """Outputs in the dtype of the values, 0 at invalid tokens."""
    outputs = readout(u, w).to(values.dtype)
    return outputs if valid is None else outputs.masked_fill(~valid[:, None, :, None], 0)
