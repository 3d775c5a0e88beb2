"""What the fused backends share: a pair of kernels as torch operators, differentiable by the closed form.

For the gradient an operator keeps, beside its inputs, its outputs, one gate p_k = e^{s_k - L_k} a token (L_k the log
of the sum of e^{s_i} so far) and the final state: about twice the values in all.
"""

from __future__ import annotations

from collections.abc import Callable
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
Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def empty_like(values: Tensor) -> Tensor:
    """Room in the layout of the values, so that heads need no copy to be joined again, but with whole rows of D."""
    room = torch.empty_like(values)
    return room if room.stride(3) == 1 else values.new_empty(values.shape)


def sums_dtype(values: Tensor) -> torch.dtype:
    """The dtype of scores, gates and sums inside a chunk: half precision is widened."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


class FusedOperator:
    """Prefix attention by a pair of kernels, registered with torch as `aaren::<name>`.

    Args:
        forward: (scores, values, valid, m, u, w, gated) -> (outputs, m, u, w, top, gates). m, u, w: the first state
            or None, left alone. The last state is float64; `top` is the token whose score is m, -1 for none; the
            gates are empty unless `gated`, and else [B, H, N] in `sums_dtype(values)`.
        sweep: (values, valid, outputs, gates, d_outputs, G [B, H, D], H [B, H]) -> (ds, dv, G, H). G and H, float64,
            come in from the right of all tokens, and are given back as they leave on the left. ds is like the gates.
        backend: the name by which `prefix_attention` knows it.
    """

    @no_type_check
    def __init__(
        self,
        name: str,
        backend: str,
        forward: Callable[..., Outputs],
        sweep: Callable[..., Gradients],
        device_types: str | None = None,
    ) -> None:
        def backward(*arguments):
            return _gradients(sweep, *arguments)

        def refuse(ctx, *_):
            raise NotImplementedError(
                f'prefix_attention: the fused kernel of backend="{backend}" is differentiable once; for second '
                'derivatives call prefix_attention(..., backend="chunked")'
            )

        options = {"mutates_args": (), "device_types": device_types}
        self.forward: Any = torch.library.custom_op(f"aaren::{name}", forward, schema=_FORWARD, **options)
        self.backward: Any = torch.library.custom_op(f"aaren::{name}_backward", backward, schema=_BACKWARD, **options)
        self.forward.register_fake(_fake_forward)
        self.backward.register_fake(_fake_backward)
        self.backward.register_autograd(refuse, setup_context=lambda ctx, inputs, output: None)

        def differentiate(ctx, *gradients):
            return _differentiate(ctx, self.backward, *gradients)

        self.forward.register_autograd(differentiate, setup_context=_keep)
        self.forward_now = forward

        class Direct(torch.autograd.Function):
            """The same operator without torch's dispatcher, whose Python costs as much as a small call's kernel."""

            @staticmethod
            def forward(ctx, *inputs):
                output = forward(*inputs, True)
                ctx.mark_non_differentiable(output[4], output[5])
                _keep(ctx, (*inputs, True), output)
                return output

            @staticmethod
            def backward(ctx, *gradients):
                # Where somebody wants to go on differentiating, the operator says what can.
                chosen = self.backward if torch.is_grad_enabled() else backward
                return _differentiate(ctx, chosen, *gradients)[:-1]

        self.direct = Direct

    @no_type_check
    def __call__(
        self, scores: Tensor, values: Tensor, state: PrefixState | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, PrefixState]:
        """Outputs like the values, and the last state."""
        before = (None, None, None) if state is None else tuple(state)
        gated = torch.is_grad_enabled() and any(t.requires_grad for t in (scores, values, *before) if t is not None)
        plain = type(values) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
        if not plain:
            out, m, u, w, _, _ = self.forward(scores, values, valid, *before, gated)
        elif gated:
            out, m, u, w, _, _ = self.direct.apply(scores, values, valid, *before)
        else:
            out, m, u, w, _, _ = self.forward_now(scores, values, valid, *before, False)
        return out, PrefixState(m, u, w)

    def failure(self, values: Tensor) -> str | None:
        """Why the kernels cannot serve values like these one-token ones [1, 1, 2, D], or None when they can."""
        try:
            scores = torch.zeros_like(values[..., 0])
            out, _, u, w, top, gates = self.forward(scores, values, None, None, None, None, True)
            self.backward(values, None, out, gates, u, w, top, None, None, values, None, None, None)
        except Exception as error:  # whatever a compiler raises, the caller has another backend
            first_line = str(error).strip().partition("\n")[0]
            return f"{type(error).__name__}: {first_line}"
        return None


@no_type_check
def _fake_forward(scores, values, valid, m, u, w, gated):
    batch, heads, _, dim = values.shape
    gates = scores.new_empty(scores.shape if gated else (0, 0, 0), dtype=sums_dtype(values))
    shapes = ((batch, heads), (batch, heads), (batch, heads, dim))
    state = (values.new_empty(shape, dtype=torch.float64) for shape in shapes)
    return (empty_like(values), *state, values.new_empty((batch, heads), dtype=torch.int64), gates)


@no_type_check
def _fake_backward(values, valid, out, gates, u, w, top, u_start, w_start, d_out, d_m, d_u, d_w):
    state = (u.new_empty(0 if u_start is None else like.shape) for like in (u, u, w))
    return (values.new_empty(gates.shape), empty_like(values), *state)


@no_type_check
def _gradients(sweep, values, valid, out, gates, u, w, top, u_start, w_start, d_out, d_m, d_u, d_w):
    """Gradients of scores, values and, if there was one, of the first state; None stands for a gradient of 0."""
    d_out = torch.zeros_like(out) if d_out is None else d_out
    # The final u and w are sums of the same terms as the outputs, over u; they enter from the right of all tokens.
    big_g = torch.zeros_like(w) if d_w is None else u[..., None] * d_w
    big_h = torch.zeros_like(u) if d_u is None else -u * d_u
    d_scores, d_values, left_g, left_h = sweep(values, valid, out, gates, d_out, big_g, big_h)
    # m shifts u and w as well; its whole gradient is 0 unless the caller reads m, u or w by themselves.
    d_top = torch.zeros_like(u)
    for gradient, reach in ((d_m, 1), (d_u, -u), (d_w, -w)):
        if gradient is not None:
            d_top += (gradient * reach).reshape(*u.shape, -1).sum(-1)
    from_tokens = top >= 0
    if d_m is not None or d_u is not None or d_w is not None:
        share = (d_top * from_tokens)[..., None].to(d_scores.dtype)
        d_scores.scatter_add_(-1, top.clamp_min(0)[..., None], share)
    d_scores = d_scores.to(values.dtype)
    if u_start is None:
        return d_scores, d_values, u.new_empty(0), u.new_empty(0), u.new_empty(0)
    share = torch.where(u_start == 0, 0.0, 1.0 / u_start)  # an empty first state has no gradient
    d_w_start = left_g * share[..., None]
    d_u_start = -left_h * share
    d_m_start = d_u_start * u_start + (d_w_start * w_start).sum(-1) + d_top * ~from_tokens
    return d_scores, d_values, d_m_start, d_u_start, d_w_start


@no_type_check
def _keep(ctx: Any, inputs: tuple, output: tuple) -> None:
    _, values, valid, _, u_start, w_start, _ = inputs
    out, _, u, w, top, gates = output
    ctx.set_materialize_grads(False)
    ctx.has_state = u_start is not None
    ctx.save_for_backward(values, valid, out, gates, u, w, top, u_start, w_start)


@no_type_check
def _differentiate(ctx: Any, backward: Callable[..., tuple], d_out, d_m, d_u, d_w, _d_top, _d_gates) -> tuple:
    d_scores, d_values, *d_state = backward(*ctx.saved_tensors, d_out, d_m, d_u, d_w)
    return d_scores, d_values, None, *(d_state if ctx.has_state else (None, None, None)), None
