"""Prefix attention on the CPU: the fused kernels as torch operators, with the closed-form backward.

For the gradient the operator keeps, beside its inputs, its outputs, one gate e^{s_k - L_k} a token (L_k the log
of the sum of e^{s_i} so far) and the final state: about twice the values in all.
"""

from __future__ import annotations

import functools
from typing import Any, no_type_check

import torch
from torch import Tensor

from aaren.ops.state import PrefixState, initial_prefix_state

_FORWARD = (
    "(Tensor scores, Tensor values, Tensor? valid, Tensor m, Tensor u, Tensor w, bool gated)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_BACKWARD = (
    "(Tensor values, Tensor? valid, Tensor out, Tensor gates, Tensor u, Tensor w, Tensor top, Tensor u_start,"
    " Tensor w_start, Tensor d_out, Tensor d_m, Tensor d_u, Tensor d_w)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _empty_like(values: Tensor) -> Tensor:
    """Room in the layout of the values, so that heads need no copy to be joined again, but with whole rows of D."""
    room = torch.empty_like(values)
    return room if room.stride(3) == 1 else values.new_empty(values.shape)


@no_type_check
@torch.library.custom_op("aaren::prefix_attention", mutates_args=(), device_types="cpu", schema=_FORWARD)
def _forward(scores, values, valid, m, u, w, gated):
    """(outputs, m, u, w, top, gates): the gates are empty unless `gated`; `top` is the token whose score is m."""
    from aaren.ops import fused

    out = _empty_like(values)
    gates = scores.new_empty(scores.shape if gated else (0, 0, 0))
    top = torch.full(m.shape, -1)
    start = fused.Triple(*(tensor.contiguous().numpy() for tensor in (m, u, w, top)))
    state = fused.forward(scores, values, valid, start, out, gates)
    return (out, *(torch.from_numpy(array) for array in state.arrays), gates)


@no_type_check
@_forward.register_fake
def _(scores, values, valid, m, u, w, gated):
    gates = scores.new_empty(scores.shape if gated else (0, 0, 0))
    state = (tensor.new_empty(tensor.shape) for tensor in (m, u, w))
    return (_empty_like(values), *state, m.new_empty(m.shape, dtype=torch.int64), gates)


@no_type_check
@torch.library.custom_op("aaren::prefix_attention_backward", mutates_args=(), device_types="cpu", schema=_BACKWARD)
def _backward(values, valid, out, gates, u, w, top, u_start, w_start, d_out, d_m, d_u, d_w):
    """Gradients of scores, values and the three tensors of the first state."""
    from aaren.ops import fused

    d_scores = gates.new_empty(gates.shape)
    d_values = _empty_like(values)
    # The final u and w are sums of the same terms as the outputs, over u; they enter from the right of all tokens.
    from_right = ((u[..., None] * d_w).numpy(), -(u * d_u).numpy())
    to_left = fused.backward(values, valid, out, gates, d_out, from_right, d_scores, d_values)
    share = torch.where(u_start == 0, 0.0, 1.0 / u_start)  # an empty first state has no gradient
    d_w_start = torch.from_numpy(to_left[0]) * share[..., None]
    d_u_start = -torch.from_numpy(to_left[1]) * share
    d_m_start = d_u_start * u_start + (d_w_start * w_start).sum(-1)
    # m shifts u and w as well; its whole gradient is 0 unless the caller reads m, u or w by themselves.
    d_top = d_m - d_u * u - (d_w * w).sum(-1)
    from_tokens = top >= 0
    if bool(d_top.any()):
        at = top.clamp_min(0)[..., None]
        d_scores.scatter_add_(-1, at, (d_top * from_tokens)[..., None].to(d_scores.dtype))
        d_m_start += d_top * ~from_tokens
    return d_scores, d_values, d_m_start, d_u_start, d_w_start


@no_type_check
@_backward.register_fake
def _(values, valid, out, gates, u, w, top, u_start, w_start, d_out, d_m, d_u, d_w):
    state = (u.new_empty(u.shape), u.new_empty(u.shape), w.new_empty(w.shape))
    return (gates.new_empty(gates.shape), _empty_like(values), *state)


@no_type_check
def _keep(ctx: Any, inputs: tuple, output: tuple) -> None:
    _, values, valid, _, u_start, w_start, _ = inputs
    out, _, u, w, top, gates = output
    ctx.save_for_backward(values, valid, out, gates, u, w, top, u_start, w_start)


@no_type_check
def _differentiate(ctx: Any, d_out, d_m, d_u, d_w, _d_top, _d_gates) -> tuple:
    d_scores, d_values, *d_state = _backward(*ctx.saved_tensors, d_out, d_m, d_u, d_w)
    return d_scores, d_values, None, *d_state, None


@no_type_check
def _differentiate_twice(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        'prefix_attention: the fused kernel of backend="cpu" is differentiable once; for second derivatives '
        'call prefix_attention(..., backend="chunked")'
    )


_forward.register_autograd(_differentiate, setup_context=_keep)
_backward.register_autograd(_differentiate_twice, setup_context=lambda ctx, inputs, output: None)


@functools.cache
def failure(dtype: torch.dtype) -> str | None:
    """Why the kernels cannot serve this dtype of sums here, or None when they can; tried once a process."""
    try:
        scores = torch.zeros(1, 1, 2, dtype=dtype)
        values = torch.ones(1, 1, 2, 1, dtype=dtype)
        state = initial_prefix_state(1, 1, 1)
        out, _, u, w, top, gates = _forward(scores, values, None, *state, True)
        _backward(values, None, out, gates, u, w, top, state.u, state.w, values, u, u, w)
    except Exception as error:  # whatever numba raises, the caller has another backend
        first_line = str(error).strip().partition("\n")[0]
        return f"{type(error).__name__}: {first_line}"
    return None


@no_type_check
def fused_cpu(
    scores: Tensor, values: Tensor, state: PrefixState | None = None, valid: Tensor | None = None
) -> tuple[Tensor, PrefixState]:
    """`prefix_attention` by the fused kernels; half precision is widened to float32 and summed in float64."""
    dtype = values.dtype
    if dtype in (torch.float16, torch.bfloat16):
        scores, values = scores.float(), values.float()
    if state is None:
        batch, heads, _, dim = values.shape
        state = initial_prefix_state(batch, heads, dim, device=values.device)
    gated = torch.is_grad_enabled() and any(t.requires_grad for t in (scores, values, *state))
    out, m, u, w, _, _ = _forward(scores, values, valid, *state, gated)
    return out.to(dtype), PrefixState(m, u, w)
