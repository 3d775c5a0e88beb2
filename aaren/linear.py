"""Linear maps by the library that is quicker at them: oneDNN for large float32 products on a CPU.

torch asks MKL for every float32 product outside a compiled graph, and MKL leaves the wide vectors of AMD's processors
unused: there oneDNN takes less than half as long, in all three products of a training step (on Intel's it takes as
long). When it meets new sizes it makes a plan of the product, in 0.3 ms, and keeps it, in half a megabyte; so only
large products go there, and of those only whole multiples of `ROWS`, which full batches of one length are: batches of
every length would leave hundreds of plans. What decides is the size alone, so that a resumed run does the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 1 << 24  # multiply-adds; a product of so many saves 0.2 ms
ROWS = 128

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@functools.cache
def onednn() -> Product | None:
    """oneDNN's product, which torch itself calls in compiled graphs only; None where it is absent or differs."""
    try:
        operator: Any = torch.ops.mkldnn._linear_pointwise.default
        make = torch.Generator().manual_seed(0)
        x, weight, bias = (torch.randn(shape, generator=make) for shape in ((16, 24), (40, 24), (40,)))
        y = operator(x, weight, bias, "none", [], "")
        if not torch.allclose(y, F.linear(x, weight, bias), atol=1e-4):
            return None
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    return lambda x, weight, bias: operator(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """`torch.nn.Linear`, its products by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear and its gradients: x [..., K], weight [N, K], bias [N] or None -> [..., N]."""
    if torch.compiler.is_compiling():  # a question about sizes would bind the graph to them
        return F.linear(x, weight, bias)
    large = x.numel() * weight.shape[0] >= LARGE and x.numel() % (ROWS * weight.shape[1]) == 0
    if not large or not _plain(x, weight, bias) or onednn() is None:
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def _plain(*tensors: Tensor | None) -> bool:
    """float32 on a CPU, and nobody who wants to see torch's own operators."""
    kinds = (Tensor, nn.Parameter)
    return unwatched() and all(
        t is None or (type(t) in kinds and t.is_cpu and t.dtype is torch.float32) for t in tensors
    )


def unwatched() -> bool:
    """Whether nobody changes, traces, watches or replaces torch's own operators on the CPU."""
    return not (
        torch.is_autocast_enabled("cpu")
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    @no_type_check
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return onednn()(_rows(x), weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @no_type_check
    def backward(ctx, d_y):
        x, weight = ctx.saved_tensors
        d_rows = _rows(d_y)
        # Somebody who goes on differentiating needs an operator that can be differentiated.
        product = F.linear if torch.is_grad_enabled() else onednn()
        d_x = product(d_rows, weight.T, None).view(x.shape) if ctx.needs_input_grad[0] else None
        d_weight = _gradient(product, _rows(x), d_rows) if ctx.needs_input_grad[1] else None
        return d_x, d_weight, d_rows.sum(0) if ctx.needs_input_grad[2] else None


def _rows(x: Tensor) -> Tensor:
    """All but the last axis in one, in memory as it is read: a gradient that was expanded took 400 times as long."""
    return x.reshape(-1, x.shape[-1]).contiguous()


def _gradient(product: Product, rows: Tensor, d_rows: Tensor) -> Tensor:
    """The weight's: d_rows^T rows, or its transpose, whichever has fewer rows (a quarter less time)."""
    if d_rows.shape[1] > rows.shape[1]:
        return product(rows.T, d_rows.T, None).T
    return product(d_rows.T, rows.T, None)
