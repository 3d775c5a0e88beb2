"""The quick form of a step: a stream's token where torch's own calls would cost more than their arithmetic.

Served are plain float32 tensors on a CPU without gradients, and plain submodules in evaluation: whatever differs (a
hook, a layer put in another's place, dropout left on, a traced or compiled graph) takes the plain form.  Few rows
(streams) go through one fused kernel, many through the library's matrix products, block by block of rows that stay
in the cache.  Both serve every attention alike, so that a comparison stays one of attentions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aaren.dropout import Dropout
from aaren.linear import Linear, onednn, unwatched
from aaren.ops.dispatch import warn_once
from aaren.ops.state import PrefixState
from aaren.ops.threads import call, worth

FEW = 1 << 20  # rows times weights up to which a kernel of ours beats the calls of the library (one row: always)
MANY = 5 << 18  # rows times weights from which oneDNN's product beats the default one (2.2x on AMD, equal on Intel)
ROWS = 512  # rows of a block whose hidden layer stays in the cache
SHARED = 1 << 16  # numbers below which a second thread costs more than it saves

ALL_REAL = np.ones(0, bool)


@functools.cache
def failure() -> str | None:
    """Why the step's kernels cannot run here, or None when they can; tried once a process."""
    try:
        from aaren.ops import step_kernels

        one, row = np.ones((1, 1), np.float32), np.ones(1, np.float32)
        state = np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1, 1))
        two = np.ones((2, 1), np.float32)
        step_kernels.absorb(0, 1, two.T[None].copy(), *state, ALL_REAL, False, one[None].copy())
        step_kernels.attend(one, two, two[:, 0].copy(), *state, ALL_REAL, False, one, row, one.copy())
        cache, maps = np.ones((1, 1, 1, 1), np.float32), (one, row) * 3
        step_kernels.look_back(0, 1, one, one, one, cache, cache.copy(), ALL_REAL[None], False, 0, one.copy())
        step_kernels.attend_cached(one, *maps, cache, cache.copy(), ALL_REAL[None], False, 0, one, row, one.copy())
        step_kernels.feed(one, one, row, row, 1e-5, one, row, one, row, row, row, 1e-5, False, True, one.copy())
    except Exception as error:  # whatever numba raises, there is the plain form
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def serves(x: Tensor) -> bool:
    """Whether a step on `x` may take the quick form, so far as the call and its surroundings decide."""
    if (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or type(x) is not Tensor
        or not x.is_cpu
        or x.dtype is not torch.float32
        or not unwatched()
    ):
        return False
    reason = failure()
    if reason is not None:
        warn_once(reason)
    return reason is None


class Remembered:
    """A place for what a step remembers of its module's parameters: neither copied nor saved with the module."""

    value: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Remembered:
        return Remembered()

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()


class Plain:
    """Plain submodules of a module, as they were when asked: `still` says whether nothing was exchanged since.

    `plain`: they are what the module was built with, so that their parameters say all.  `serves`: the kernels can read
    them too.
    """

    def __init__(self, owner: nn.Module, linears: Sequence[str], norms: Sequence[str], dropouts: Sequence[str]) -> None:
        self.plain = self.serves = True
        self.tensors: dict[str, Tensor | None] = {}
        self._held: list[tuple[dict[str, Any], str, Any]] = []
        self._places: list[tuple[Tensor, int]] = []
        self._hooks: list[dict[int, Any]] = []
        self._dropouts: list[nn.Module] = []
        for names, kind in ((linears, Linear), (norms, nn.LayerNorm), (dropouts, Dropout)):
            for name in names:
                module = owner._modules.get(name)
                self._held.append((owner._modules, name, module))
                if module is None or type(module) is not kind:
                    self.plain = self.serves = False
                    continue
                self._hooks += [module._forward_hooks, module._forward_pre_hooks]
                if kind is Dropout:
                    self._dropouts.append(module)
                else:
                    for part in ("weight", "bias"):
                        self.hold(module, part, f"{name}.{part}")
        self.serves = self.serves and self._quiet()

    def hold(self, owner: nn.Module, key: str, name: str) -> None:
        """Watch one parameter."""
        tensor = owner._parameters.get(key)
        self._held.append((owner._parameters, key, tensor))
        self.tensors[name] = tensor
        if tensor is None:
            self.plain = self.plain and key in owner._parameters  # else computed, as under a parametrisation
            self.serves = self.serves and self.plain
            return
        readable = tensor.dtype is torch.float32 and tensor.is_cpu and tensor.is_contiguous()
        self.serves = self.serves and type(tensor) is nn.Parameter and readable
        self._places.append((tensor, tensor.data_ptr()))

    def still(self) -> bool:
        """Whether modules, parameters and their memory are those that were found, and nothing hooks in between."""
        for place, name, held in self._held:
            if place.get(name) is not held:
                return False
        for tensor, address in self._places:
            if tensor.data_ptr() != address:
                return False
        return self._quiet()

    def _quiet(self) -> bool:
        """Whether the modules' own calls would do no more than their arithmetic."""
        for dropout in self._dropouts:
            if dropout.training:
                return False
        return not any(self._hooks)


def remembered(place: Remembered, make: Callable[[Any], Any], owner: nn.Module) -> Any:
    """What `place` remembers of `owner`, if it still holds; else what `make` finds now."""
    if place.value is None or not place.value.still():
        place.value = make(owner)
    return place.value


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear without gradients, by the library that is quicker for so many rows."""
    if x.shape[0] * weight.numel() >= MANY and x.is_cpu and x.dtype is torch.float32:
        product = onednn()
        if product is not None:
            return product(x, weight, bias)
    return F.linear(x, weight, bias)


@no_type_check
def absorb(projected: Tensor, state: PrefixState, valid: Tensor | None = None) -> Tensor:
    """`prefix_step` in place for N tokens a row, on values with their scores behind them [N, B, H*D + H].

    Returns the heads' outputs [N, B, H*D].  valid [B]: for one token a row.
    """
    from aaren.ops import step_kernels

    m, u, w = (t.numpy() for t in state)
    rows, heads, dim = w.shape
    out = projected.new_empty(len(projected), rows, heads * dim)
    mask = (ALL_REAL, False) if valid is None else (valid.contiguous().numpy(), True)
    with_threads(step_kernels.absorb, projected.contiguous().numpy(), m, u, w, *mask, out.numpy(), work=out.numel())
    written(state)
    return out


def with_threads(kernel: Callable, *arguments: Any, work: int) -> None:
    """Call a kernel that shares its rows among threads: as many of torch's as the `work` (numbers) is worth."""
    call(kernel, worth(work, SHARED), *arguments)


def written(tensors: Iterable[Tensor]) -> None:
    """Tell autograd that these were written in place: a graph that needs the old numbers then says so."""
    torch.autograd.graph.increment_version([tensor for tensor in tensors if not tensor.is_inference()])


def consumable(state: PrefixState, rows: int, heads: int, dim: int) -> bool:
    """Whether the kernels may write the state in place; the plain form tells of shapes that do not fit."""
    m, u, w = state
    if m.shape != (rows, heads) or u.shape != (rows, heads) or w.shape != (rows, heads, dim):
        return False
    for tensor in state:
        if type(tensor) is not Tensor or tensor.dtype is not torch.float64 or not tensor.is_cpu:
            return False
        if tensor.requires_grad or not tensor.is_contiguous():
            return False
    return True
