"""Prefix attention in plain torch: any device, any float dtype, twice differentiable.

Tokens are cut into chunks of C. Inside a chunk prefix k weighs token i <= k with exp(s_i - m_k), m_k the
running maximum: every weight is at most 1, and one [C, C] x [C, D] product gives all sums of a chunk. The
chunks' last triples are summed over the chunks before by the same function, in float64, and joined to each
token by the paper's operator. Work O(N C), depth log_C N.

The maxima are references, not quantities: (m, u, w) and (m + c, u e^-c, w e^-c) mean the same, so they are
detached, and every derivative of w / u is exact all the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from aaren._typing import Bool, Float
from aaren.ops.state import PrefixState, combine, finite_reference, initial_prefix_state, state_dtype

CHUNK = 32
Triple = tuple[Tensor, Tensor, Tensor]


def chunked(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """Outputs [B, H, N, D] and the state after the last token; sums in float32 or float64, carries in float64."""
    batch, heads, length, dim = values.shape
    sums = torch.float64 if values.dtype == torch.float64 else torch.float32
    s, v = scores.to(sums), values.to(sums)
    if valid is not None:
        s = s.masked_fill(~valid[:, None, :], -torch.inf)
        v = v.masked_fill(~valid[:, None, :, None], 0)
    if state is None:
        state = initial_prefix_state(batch, heads, dim, device=values.device)

    m, u, w = _within_chunks(s, None, v)  # [B, H, K, C], [B, H, K, C], [B, H, K, C, D]
    carry = _before_chunks(m[..., -1], u[..., -1], w[..., -1, :], state)  # [B, H, K], [B, H, K], [B, H, K, D]

    m, carry_m, carry_w = m.to(carry[0].dtype), carry[0][..., None], carry[2][..., None, :]
    reference = finite_reference(torch.maximum(m, carry_m))
    scale = torch.exp(m - reference)  # [B, H, K, C], of the chunk's own tokens
    carry_scale = torch.exp(carry_m - reference)  # of the tokens before the chunk
    norm = u * scale + carry[1][..., None] * carry_scale
    norm = torch.where(norm == 0, torch.ones_like(norm), norm)
    outputs = torch.addcmul(
        w * (scale / norm)[..., None].to(sums), carry_w.to(sums), (carry_scale / norm)[..., None].to(sums)
    )
    outputs = outputs.flatten(2, 3)[:, :, :length].to(values.dtype)
    if valid is not None:
        outputs = outputs.masked_fill(~valid[:, None, :, None], 0)

    last = (m[..., -1, -1], u[..., -1, -1].to(m.dtype), w[..., -1, -1, :].to(m.dtype))
    total = combine((carry[0][..., -1], carry[1][..., -1], carry[2][..., -1, :]), last)
    return outputs, _final_state(s, state, total)


def _final_state(s: Tensor, state: PrefixState, total: Triple) -> PrefixState:
    """The final triple, with the gradient that it owes to the largest score, detached until here."""
    m = torch.maximum(s.amax(-1).to(state.m.dtype), state.m)
    shift = torch.exp(total[0] - finite_reference(m))  # its value is 1 (0 for the empty prefix)
    return PrefixState(m, total[1] * shift, total[2] * shift[..., None])


def _within_chunks(m: Tensor, u: Tensor | None, w: Tensor) -> Triple:
    """Prefix sums of triples inside each chunk: m [B, H, N] -> [B, H, K, C]; u None: leaves (u = 1)."""
    length = m.shape[-1]
    size = min(CHUNK, length)
    short = -length % size
    m = pad(m, (0, short), value=-torch.inf).unflatten(-1, (-1, size))  # [B, H, K, C]
    w = pad(w, (0, 0, 0, short)).unflatten(-2, (-1, size))  # [B, H, K, C, D]
    running = torch.cummax(m.detach(), -1).values
    future = torch.ones(size, size, dtype=torch.bool, device=m.device).triu(1)
    gap = m[..., None, :] - finite_reference(running)[..., None]  # [B, H, K, k, i]
    weights = torch.exp(gap.masked_fill(future, -torch.inf))
    if u is None:
        return running, weights.sum(-1), weights @ w
    u = pad(u, (0, short)).unflatten(-1, (-1, size))
    return running, (weights @ u[..., None])[..., 0], weights @ w


def _before_chunks(m: Tensor, u: Tensor, w: Tensor, state: PrefixState) -> Triple:
    """For each of K chunks the triple of everything before it: the state, then the chunks 0..k-1.

    m, u [B, H, K] and w [B, H, K, D] are the chunks' own triples.
    """
    dtype = state_dtype(w.device)
    m = torch.cat([state.m[..., None].detach(), m[..., :-1].to(dtype)], -1)
    # m of the state enters detached; this factor of value 1 (0 for an empty state) carries its gradient.
    own = torch.exp(state.m - finite_reference(state.m.detach()))
    u = torch.cat([(state.u * own)[..., None], u[..., :-1].to(dtype)], -1)
    w = torch.cat([(state.w * own[..., None])[..., None, :], w[..., :-1, :].to(dtype)], -2)
    return _prefix(m, u, w)


def _prefix(m: Tensor, u: Tensor, w: Tensor) -> Triple:
    """Inclusive prefix sums of triples over the last token axis, chunk by chunk."""
    count = m.shape[-1]
    m, u, w = _within_chunks(m, u, w)
    if m.shape[-2] > 1:
        carry = _prefix(m[..., -1], u[..., -1], w[..., -1, :])
        before = (carry[0][..., :-1, None], carry[1][..., :-1, None], carry[2][..., :-1, None, :])
        later = combine(before, (m[..., 1:, :], u[..., 1:, :], w[..., 1:, :, :]))
        m = torch.cat([m[..., :1, :], later[0]], -2)
        u = torch.cat([u[..., :1, :], later[1]], -2)
        w = torch.cat([w[..., :1, :, :], later[2]], -3)
    return m.flatten(-2)[..., :count], u.flatten(-2)[..., :count], w.flatten(-3, -2)[..., :count, :]
