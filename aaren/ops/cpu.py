"""Prefix attention on the CPU: the fused kernels as torch operators, with the closed-form backward.

For the gradient the operator keeps, beside its inputs, its outputs, one gate e^{s_k - L_k} a token (L_k the log
of the sum of e^{s_i} so far) and the final state: about twice the values in all.
"""

from __future__ import annotations

import functools
from typing import Any, no_type_check

import torch
from torch import Tensor

from aaren.ops.state import PrefixState

_FORWARD = (
    "(Tensor scores, Tensor values, Tensor? valid, Tensor? m, Tensor? u, Tensor? w, bool gated)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_BACKWARD = (
    "(Tensor values, Tensor? valid, Tensor out, Tensor gates, Tensor u, Tensor w, Tensor top, Tensor? u_start,"
    " Tensor? w_start, Tensor? d_out, Tensor? d_m, Tensor? d_u, Tensor? d_w)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _empty_like(values: Tensor) -> Tensor:
    """Room in the layout of the values, so that heads need no copy to be joined again, but with whole rows of D."""
    room = torch.empty_like(values)
    return room if room.stride(3) == 1 else values.new_empty(values.shape)


@no_type_check
def _forward_now(scores, values, valid, m, u, w, gated):
    """(outputs, m, u, w, top, gates): the gates are empty unless `gated`; `top` is the token whose score is m."""
    from aaren.ops import fused

    batch, heads, _, dim = values.shape
    start = fused.Triple.empty(batch, heads, dim)
    if m is not None:
        # A copy: the kernels turn it into the last state, and the caller's stays as it is.
        owned = (tensor.clone(memory_format=torch.contiguous_format).numpy() for tensor in (m, u, w))
        start = fused.Triple(*owned, start.arrays[3])
    out = _empty_like(values)
    gates = scores.new_empty(scores.shape if gated else (0, 0, 0))
    state = fused.forward(scores, values, valid, start, out, gates)
    return (out, *(torch.from_numpy(array) for array in state.arrays), gates)


_forward = torch.library.custom_op(
    "aaren::prefix_attention", _forward_now, mutates_args=(), device_types="cpu", schema=_FORWARD
)


@no_type_check
@_forward.register_fake
def _(scores, values, valid, m, u, w, gated):
    batch, heads, _, dim = values.shape
    gates = scores.new_empty(scores.shape if gated else (0, 0, 0))
    shapes = ((batch, heads), (batch, heads), (batch, heads, dim))
    state = (values.new_empty(shape, dtype=torch.float64) for shape in shapes)
    return (_empty_like(values), *state, values.new_empty((batch, heads), dtype=torch.int64), gates)


@no_type_check
def _backward_now(values, valid, out, gates, u, w, top, u_start, w_start, d_out, d_m, d_u, d_w):
    """Gradients of scores, values and, if there was one, of the first state; None stands for a gradient of 0."""
    from aaren.ops import fused

    d_scores = gates.new_empty(gates.shape)
    d_values = _empty_like(values)
    d_out = torch.zeros_like(out) if d_out is None else d_out
    # The final u and w are sums of the same terms as the outputs, over u; they enter from the right of all tokens.
    big_g = torch.zeros_like(w) if d_w is None else u[..., None] * d_w
    big_h = torch.zeros_like(u) if d_u is None else -u * d_u
    to_left = fused.backward(values, valid, out, gates, d_out, (big_g.numpy(), big_h.numpy()), d_scores, d_values)
    # m shifts u and w as well; its whole gradient is 0 unless the caller reads m, u or w by themselves.
    d_top = torch.zeros_like(u)
    for gradient, reach in ((d_m, 1), (d_u, -u), (d_w, -w)):
        if gradient is not None:
            d_top += (gradient * reach).reshape(*u.shape, -1).sum(-1)
    from_tokens = top >= 0
    if d_m is not None or d_u is not None or d_w is not None:
        share = (d_top * from_tokens)[..., None].to(d_scores.dtype)
        d_scores.scatter_add_(-1, top.clamp_min(0)[..., None], share)
    if u_start is None:
        return d_scores, d_values, u.new_empty(0), u.new_empty(0), u.new_empty(0)
    share = torch.where(u_start == 0, 0.0, 1.0 / u_start)  # an empty first state has no gradient
    d_w_start = torch.from_numpy(to_left[0]) * share[..., None]
    d_u_start = -torch.from_numpy(to_left[1]) * share
    d_m_start = d_u_start * u_start + (d_w_start * w_start).sum(-1) + d_top * ~from_tokens
    return d_scores, d_values, d_m_start, d_u_start, d_w_start


_backward = torch.library.custom_op(
    "aaren::prefix_attention_backward", _backward_now, mutates_args=(), device_types="cpu", schema=_BACKWARD
)


@no_type_check
@_backward.register_fake
def _(values, valid, out, gates, u, w, top, u_start, w_start, d_out, d_m, d_u, d_w):
    state = (u.new_empty(0 if u_start is None else like.shape) for like in (u, u, w))
    return (gates.new_empty(gates.shape), _empty_like(values), *state)


@no_type_check
def _keep(ctx: Any, inputs: tuple, output: tuple) -> None:
    _, values, valid, _, u_start, w_start, _ = inputs
    out, _, u, w, top, gates = output
    ctx.set_materialize_grads(False)
    ctx.has_state = u_start is not None
    ctx.save_for_backward(values, valid, out, gates, u, w, top, u_start, w_start)


@no_type_check
def _differentiate(ctx: Any, d_out, d_m, d_u, d_w, _d_top, _d_gates, differentiate=_backward) -> tuple:
    d_scores, d_values, *d_state = differentiate(*ctx.saved_tensors, d_out, d_m, d_u, d_w)
    return d_scores, d_values, None, *(d_state if ctx.has_state else (None, None, None)), None


@no_type_check
def _differentiate_twice(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        'prefix_attention: the fused kernel of backend="cpu" is differentiable once; for second derivatives '
        'call prefix_attention(..., backend="chunked")'
    )


_forward.register_autograd(_differentiate, setup_context=_keep)
_backward.register_autograd(_differentiate_twice, setup_context=lambda ctx, inputs, output: None)


class _Direct(torch.autograd.Function):
    """The same operator without torch's dispatcher, whose Python costs as much as a small call's kernel."""

    @staticmethod
    @no_type_check
    def forward(ctx, *inputs):
        output = _forward_now(*inputs, True)
        ctx.mark_non_differentiable(output[4], output[5])
        _keep(ctx, (*inputs, True), output)
        return output

    @staticmethod
    @no_type_check
    def backward(ctx, *gradients):
        if torch.is_grad_enabled():  # somebody wants to go on differentiating: the operator says what can
            return _differentiate(ctx, *gradients)[:-1]
        return _differentiate(ctx, *gradients, differentiate=_backward_now)[:-1]


@functools.cache
def failure(dtype: torch.dtype) -> str | None:
    """Why the kernels cannot serve this dtype of sums here, or None when they can; tried once a process."""
    try:
        scores = torch.zeros(1, 1, 2, dtype=dtype)
        values = torch.ones(1, 1, 2, 1, dtype=dtype)
        out, _, u, w, top, gates = _forward(scores, values, None, None, None, None, True)
        _backward(values, None, out, gates, u, w, top, None, None, values, None, None, None)
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
    before = (None, None, None) if state is None else tuple(state)
    gated = torch.is_grad_enabled() and any(t.requires_grad for t in (scores, values, *before) if t is not None)
    plain = type(values) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    if not plain:
        out, m, u, w, _, _ = _forward(scores, values, valid, *before, gated)
    elif gated:
        out, m, u, w, _, _ = _Direct.apply(scores, values, valid, *before)
    else:
        out, m, u, w, _, _ = _forward_now(scores, values, valid, *before, False)
    return out.to(dtype), PrefixState(m, u, w)
