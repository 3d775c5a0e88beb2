"""Prefix attention in plain torch: any device, any float dtype, twice differentiable.

Tokens are cut into chunks of C. Inside a chunk prefix k weighs token i <= k with exp(s_i - m_k), m_k the running
maximum: every weight is at most 1, and one [C, C] x [C, D] product gives all sums of a chunk. The chunks' last
triples are summed over the chunks before by the same function, in float64, and joined to each token by the
paper's operator. Work O(N C), depth log_C N.

The maxima are references, not quantities: (m, u, w) and (m + c, u e^-c, w e^-c) mean the same, so they are
detached, and every derivative of w / u is exact all the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from aaren._typing import Bool, Float
from aaren.ops.state import PrefixState, combine, finite_reference, state_dtype

CHUNK = 32


def chunked(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """Outputs [B, H, N, D] and the state after the last token; half precision is summed in float32, carries in float64."""
    batch, heads, length, dim = values.shape
    sums = torch.float64 if values.dtype == torch.float64 else torch.float32
    s, v = scores.to(sums), values.to(sums)
    if valid is not None:
        s = s.masked_fill(~valid[:, None, :], -torch.inf)
        v = v.masked_fill(~valid[:, None, :, None], 0)
    if state is None:
        state = PrefixState.empty(batch, heads, dim, values.device)

    m, u, w = _within_chunks(s, None, v)  # [B, H, K, C], [B, H, K, C], [B, H, K, C, D]
    carry_m, carry_u, carry_w = _before_chunks(m[..., -1], u[..., -1], w[..., -1, :], state)  # [B, H, K] ...

    carry_dtype = state_dtype(values.device)
    m_all = torch.maximum(m.to(carry_dtype), carry_m[..., None])
    reference = finite_reference(m_all)
    scale = torch.exp(m.to(carry_dtype) - reference)  # [B, H, K, C], of the chunk's own tokens
    carry_scale = torch.exp(carry_m[..., None] - reference)  # of the tokens before the chunk
    u_all = u * scale + carry_u[..., None] * carry_scale
    norm = torch.where(u_all == 0, torch.ones_like(u_all), u_all)
    outputs = torch.addcmul(
        w * (scale / norm)[..., None].to(sums),
        carry_w[..., None, :].to(sums),
        (carry_scale / norm)[..., None].to(sums),
    )
    outputs = outputs.flatten(2, 3)[:, :, :length].to(values.dtype)
    if valid is not None:
        outputs = outputs.masked_fill(~valid[:, None, :, None], 0)
    total = _last((m, u, w), (carry_m, carry_u, carry_w))
    return outputs, _final_state(s, state, total)


def combine_last(m: Tensor, u: Tensor, w: Tensor, *carry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The triple of all tokens: the last chunk's joined to that of the chunks before it."""
    dtype = carry[0].dtype
    last = (m[..., -1, -1].to(dtype), u[..., -1, -1].to(dtype), w[..., -1, -1, :].to(dtype))
    return combine((carry[0][..., -1], carry[1][..., -1], carry[2][..., -1, :]), last)


def _final_state(
    s: Tensor, state: PrefixState, m: Tensor, total: tuple[Tensor, Tensor, Tensor]
) -> PrefixState:
    """The final triple, with the gradient that its own m owes to the largest score."""
    m_grad = torch.maximum(s.amax(-1).to(m.dtype), state.m)
    shift = torch.exp(m - finite_reference(m_grad))  # 1 (or 0 when empty), but it carries the gradient of m
    return PrefixState(m_grad, total[1] * shift, total[2] * shift[..., None])


def _within_chunks(m: Tensor, u: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prefix sums of triples inside each chunk: m [B, H, N] -> [B, H, K, C]; u None stands for leaves (u = 1)."""
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


def _before_chunks(m: Tensor, u: Tensor, w: Tensor, state: PrefixState) -> tuple[Tensor, Tensor, Tensor]:
    """For each of K chunks the triple of everything before it: the state, then the chunks 0..k-1.

    m, u [B, H, K] and w [B, H, K, D] are the chunks' own triples.
    """
    dtype = state_dtype(w.device)
    m = torch.cat([state.m[..., None].detach(), m[..., :-1].to(dtype)], -1)
    # m of the state enters detached, so its gradient comes with u and w through this factor, whose value is 1
    own = torch.exp(state.m - finite_reference(state.m.detach()))
    own = torch.where(state.m == -torch.inf, torch.zeros_like(own), own)
    u = torch.cat([(state.u * own)[..., None], u[..., :-1].to(dtype)], -1)
    w = torch.cat([(state.w * own[..., None])[..., None, :], w[..., :-1, :].to(dtype)], -2)
    return _prefix(m, u, w)


def _prefix(m: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inclusive prefix sums of triples over the last token axis, chunk by chunk."""
    count = m.shape[-1]
    m, u, w = _within_chunks(m, u, w)
    if m.shape[-2] > 1:
        carry = _prefix(m[..., -1], u[..., -1], w[..., -1, :])
        first = (m[..., :1, :], u[..., :1, :], w[..., :1, :, :])
        before = (carry[0][..., :-1, None], carry[1][..., :-1, None], carry[2][..., :-1, None, :])
        later = combine(before, (m[..., 1:, :], u[..., 1:, :], w[..., 1:, :, :]))
        m, u, w = (
            torch.cat([first[0], later[0]], -2),
            torch.cat([first[1], later[1]], -2),
            torch.cat([first[2], later[2]], -3),
        )
    return m.flatten(-2)[..., :count], u.flatten(-2)[..., :count], w.flatten(-3, -2)[..., :count, :]
