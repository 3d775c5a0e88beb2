"""The one public operator: checks its input, picks a backend, calls it."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Callable
from typing import no_type_check

import torch
from torch import Tensor

from aaren._typing import Bool, Float
from aaren.ops import cuda, naive
from aaren.ops.chunked import chunked
from aaren.ops.cpu import failure, fused_cpu
from aaren.ops.state import PrefixState, state_dtype

Backend = Callable[[Tensor, Tensor, PrefixState | None, Tensor | None], tuple[Tensor, PrefixState]]

BACKENDS: dict[str, Backend] = {
    "cpu": fused_cpu,
    "cuda": cuda.fused_cuda,
    "chunked": chunked,
    "masked_softmax": naive.masked_softmax,
    "recurrence": naive.recurrence,
    "block_recurrence": naive.block_recurrence,
    "hillis_steele": naive.hillis_steele,
}


def available_backends(device: str = "cpu") -> list[str]:
    """Names that `prefix_attention(backend=...)` takes for tensors on this kind of device, beside "auto"."""
    return sorted(name for name in BACKENDS if name not in ("cpu", "cuda") or name == device)


@no_type_check  # it checks its arguments itself, with messages that say what to do
def prefix_attention(
    scores: Float[Tensor, "B H N"],
    values: Float[Tensor, "B H N D"],
    state: PrefixState | None = None,
    valid: Bool[Tensor, "B N"] | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B H N D"], PrefixState]:
    """Softmax attention of one fixed query over every prefix: o_k = sum_{i<=k} e^{s_i} v_i / sum_{i<=k} e^{s_i}.

    Args:
        scores: [B, H, N], one score a token and head, any real number; -inf takes a token out.
        values: [B, H, N, D], same dtype and device as `scores` (float16, bfloat16, float32 or float64).
        state: what the tokens before these left behind, from this function or `prefix_step`; None at the start.
        valid: [B, N] bool, True = real. An invalid token contributes exactly nothing and its output is 0, as is
            that of a prefix without any valid token.
        backend: "auto", or a name in `available_backends()`.

    Returns:
        outputs [B, H, N, D] in the dtype of `values`, and the state after the last token (float64).

    Raises:
        ValueError: wrong shapes, no tokens, tensors on several devices, an unknown backend.
        TypeError: a dtype that is not floating point, mixed dtypes, a mask that is not bool, a half-precision state.
    """
    _check(scores, values, valid)
    if state is not None:
        state = _checked_state(state, values)
    if torch.is_autocast_enabled(values.device.type) and values.dtype != torch.float64:
        with torch.autocast(values.device.type, enabled=False):  # sums, like softmax's, belong in float32
            return prefix_attention(scores.float(), values.float(), state, valid, backend)
    if scores.dtype != values.dtype:
        raise TypeError(
            f"prefix_attention: scores are {scores.dtype} and values {values.dtype}; cast one of them, "
            "or call under torch.autocast"
        )
    return _pick(backend, values)(scores, values, state, valid)


@no_type_check  # it asks a tensor for its device and dtype alone
def _pick(name: str, values: Tensor) -> Backend:
    device = values.device
    if name == "auto":
        if torch.compiler.is_exporting():
            return chunked
        if device.type == "cuda" and _fused_serves_gpu(values.dtype, device):
            return cuda.fused_cuda
        return fused_cpu if device.type == "cpu" and _fused_serves(_sums(values)) else chunked
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(available_backends(device.type))
        raise ValueError(f"prefix_attention: no backend {name!r} here{hint}; available: auto, {known}")
    if name in ("cpu", "cuda"):
        interpreted = name == "cuda" and device.type == "cpu" and cuda.interpreted()
        if device.type != name and not interpreted:
            raise ValueError(f'prefix_attention: backend="{name}" cannot serve tensors on {device}; use backend="auto"')
        reason = _refusal(name, values.dtype, device)
        if reason is not None:
            raise RuntimeError(f'prefix_attention: backend="{name}" cannot run here ({reason}); use backend="chunked"')
    return BACKENDS[name]


def _sums(values: Tensor) -> torch.dtype:
    """The dtype the fused kernels are compiled for: half precision is widened first."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


@torch.compiler.assume_constant_result
def _fused_serves(dtype: torch.dtype) -> bool:
    """Whether the fused kernels can run; if not, says why, once."""
    reason = failure(dtype)
    if reason is not None:
        warn_once(reason)
    return reason is None


@torch.compiler.assume_constant_result
def _refusal(name: str, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the backend that was asked for by name cannot run, or None."""
    if name == "cuda":
        return cuda.failure(dtype, device)
    return failure(torch.float64 if dtype == torch.float64 else torch.float32)


@torch.compiler.assume_constant_result
def _fused_serves_gpu(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the GPU kernels can run; if not, says why, once."""
    reason = cuda.failure(dtype, device)
    if reason is not None:
        warn_once(reason, "GPU")
    return reason is None


@functools.cache
def warn_once(reason: str, processor: str = "CPU") -> None:
    """Say once a process and reason why the fused kernels, of the scan or of a stream's step, do not serve."""
    warnings.warn(
        f"aaren: the fused {processor} kernels cannot run here ({reason}); plain torch (the chunked form), several "
        "times slower, serves instead",
        RuntimeWarning,
        stacklevel=2,
    )


def _check(scores: Tensor, values: Tensor, valid: Tensor | None) -> None:
    if values.dim() != 4 or scores.dim() != 3 or scores.shape != values.shape[:3]:
        raise ValueError(
            "prefix_attention: scores must be [batch, heads, tokens] and values [batch, heads, tokens, dim], "
            f"but their shapes are {tuple(scores.shape)} and {tuple(values.shape)}"
        )
    if 0 in values.shape[1:]:
        raise ValueError(
            f"prefix_attention: no tokens, heads or dimensions in values of shape {tuple(values.shape)}; "
            "only the batch may be empty"
        )
    for name, tensor in (("scores", scores), ("values", values)):
        if not tensor.is_floating_point():
            raise TypeError(f"prefix_attention: {name} must be floating point, but are {tensor.dtype}")
    if scores.device != values.device:
        raise ValueError(f"prefix_attention: scores are on {scores.device} and values on {values.device}")
    if valid is None:
        return
    if valid.dtype != torch.bool:
        raise TypeError(f"prefix_attention: valid must be bool (True = real token), but is {valid.dtype}")
    batch, _, length = scores.shape
    if valid.shape != (batch, length):
        raise ValueError(
            f"prefix_attention: valid must be [batch, tokens] = {(batch, length)}, "
            f"but its shape is {tuple(valid.shape)}"
        )
    if valid.device != values.device:
        raise ValueError(f"prefix_attention: valid is on {valid.device} and values on {values.device}")


def _checked_state(state: PrefixState, values: Tensor) -> PrefixState:
    """The state in the carry dtype; float32 is widened, half precision refused: it has already lost the sums."""
    batch, heads, _, dim = values.shape
    expected = {"m": (batch, heads), "u": (batch, heads), "w": (batch, heads, dim)}
    for name, tensor in zip(expected, state, strict=True):
        if tuple(tensor.shape) != expected[name]:
            raise ValueError(
                f"prefix_attention: state.{name} has shape {tuple(tensor.shape)}, but this batch and these heads need "
                f"{expected[name]}; a state belongs to the batch and model that made it"
            )
        if tensor.device != values.device:
            raise ValueError(f"prefix_attention: state.{name} is on {tensor.device} and values on {values.device}")
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"prefix_attention: state.{name} is {tensor.dtype}, too coarse for running sums; keep the state in "
                "the dtype it was returned in (float64)"
            )
    return PrefixState(*(tensor.to(state_dtype(values.device)) for tensor in state))
