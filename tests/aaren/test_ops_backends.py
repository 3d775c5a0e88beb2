"""What surrounds the arithmetic: dtypes, layouts, compile, autocast, memory, threads, fallback, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from aaren.ops import (
    PrefixState,
    available_backends,
    cpu,
    dispatch,
    initial_prefix_state,
    prefix_attention,
    prefix_step,
)

BACKENDS = available_backends()


def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape[:3], generator=generator, dtype=torch.float64) * 3
    return scores.to(dtype), torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture
def poisoned_memory():
    """Uninitialised tensors hold NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_uninitialised_is_read(backend: str):
    scores, values = inputs(2, 3, 50, 5)
    valid = torch.arange(50).expand(2, 50) % 3 > 0
    scores.requires_grad_()
    values.requires_grad_()
    outputs, state = prefix_attention(scores, values, valid=valid, backend=backend)
    (outputs.sum() + state.w.sum()).backward()
    assert all(tensor.isfinite().all() for tensor in (outputs, *state, scores.grad, values.grad))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_summed_in_full(backend: str, dtype: torch.dtype):
    scores, values = inputs(2, 2, 300, 4, dtype=dtype)
    outputs, state = prefix_attention(scores, values, backend=backend)
    exact, _ = prefix_attention(scores.double(), values.double(), backend="masked_softmax")
    assert outputs.dtype == dtype
    assert all(tensor.dtype == torch.float64 for tensor in state)
    rounding = torch.finfo(dtype).eps * exact.abs() + 3e-6
    assert ((outputs.double() - exact).abs() <= rounding).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_and_an_empty_batch(backend: str):
    scores, values = inputs(3, 2, 20, 6)
    expected, _ = prefix_attention(scores, values, backend=backend)
    layouts = [
        (scores.transpose(1, 2).contiguous().transpose(1, 2), values.transpose(1, 2).contiguous().transpose(1, 2)),
        (scores.flip(0).flip(0), values.transpose(2, 3).contiguous().transpose(2, 3)),
        (torch.cat([scores, scores], 2)[..., :20], torch.cat([values, values], 3)[..., :6]),
        (
            scores.permute(2, 0, 1).contiguous().permute(1, 2, 0),
            values.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        ),
    ]
    for s, v in layouts:
        s, v = s.requires_grad_(), v.requires_grad_()
        outputs, _ = prefix_attention(s, v, backend=backend)
        torch.testing.assert_close(outputs, expected, rtol=1e-6, atol=1e-6)
        outputs.sum().backward()  # an expanded gradient, of stride 0
    wide = values[:1, :1].expand(3, 2, 20, 6)
    outputs, _ = prefix_attention(scores, wide, backend=backend)
    torch.testing.assert_close(outputs, prefix_attention(scores, wide.clone(), backend=backend)[0])
    none = [torch.zeros(0, 2, 5, requires_grad=True), torch.zeros(0, 2, 5, 3, requires_grad=True)]
    outputs, state = prefix_attention(*none, backend=backend)
    outputs.sum().backward()
    assert outputs.shape == (0, 2, 5, 3)
    assert state.w.shape == (0, 2, 3)


class Stack(nn.Module):
    """Two layers around the operator, as a model would hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 10) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            scores, values = layer(x).split([2, 8], -1)
            outputs, _ = prefix_attention(scores.transpose(1, 2), values.unflatten(-1, (2, 4)).transpose(1, 2))
            x = x + outputs.transpose(1, 2).flatten(2)
        return x


def test_a_whole_model_compiles_into_one_graph_with_the_fused_kernels():
    torch.manual_seed(0)
    model, x = Stack(), torch.randn(2, 12, 8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected, ours = model(x), compiled(x)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    grads = [torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (expected, ours)]
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_autocast_sums_in_float32(backend: str):
    scores, values = inputs(2, 2, 20, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = prefix_attention(scores.bfloat16(), values, backend=backend)
    exact, _ = prefix_attention(scores.bfloat16().float(), values, backend="masked_softmax")
    assert outputs.dtype == torch.float32
    assert (outputs - exact).abs().max() <= 3e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_registered_operators_pass_torchs_own_checks(dtype: torch.dtype):
    scores, values = inputs(2, 2, 7, 4, dtype=dtype)
    state = initial_prefix_state(2, 2, 4)
    arguments = (scores.requires_grad_(), values.requires_grad_(), None, *state, True)
    torch.library.opcheck(
        torch.ops.aaren.prefix_attention.default,
        arguments,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_second_derivatives_of_the_fused_kernel_name_the_backend_that_has_them():
    scores, values = inputs(1, 1, 5, 2)
    outputs, _ = prefix_attention(scores.requires_grad_(), values.requires_grad_(), backend="cpu")
    (first,) = torch.autograd.grad(outputs.square().sum(), scores, create_graph=True)
    with pytest.raises(NotImplementedError, match='backend="chunked"'):
        first.sum().backward()


def test_memory_saved_for_backward_is_at_most_2_2_times_the_values():
    scores, values = inputs(2, 4, 512, 64)
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prefix_attention(scores.requires_grad_(), values.requires_grad_(), backend="cpu")
    assert sum(held.values()) <= 2.2 * values.nbytes
    held.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.no_grad():
        prefix_attention(scores, values, backend="cpu")
    assert not held


def test_several_python_threads_may_call_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aaren.ops.fused.SMALL", 1 << 16)
    torch.set_num_threads(2)
    scores, values = inputs(2, 4, 600, 64)
    expected, _ = prefix_attention(scores, values, backend="cpu")
    results: list[torch.Tensor] = []
    workers = [
        threading.Thread(target=lambda: results.extend(prefix_attention(scores, values)[0] for _ in range(5)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 15
    assert all(torch.equal(result, expected) for result in results)


def test_without_numba_the_chunked_form_serves_after_one_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "aaren.ops.fused", None)  # its import fails, as without numba
    monkeypatch.delattr("aaren.ops.fused")
    cpu.failure.cache_clear()
    dispatch.warn_once.cache_clear()
    try:
        scores, values = inputs(1, 2, 10, 3)
        with pytest.warns(RuntimeWarning, match="fused"):
            outputs, _ = prefix_attention(scores, values)
        prefix_attention(scores, values)  # a second warning would be an error here
        assert torch.equal(outputs, prefix_attention(scores, values, backend="chunked")[0])
        with pytest.raises(RuntimeError, match=r'cannot run here .*backend="chunked"'):
            prefix_attention(scores, values, backend="cpu")
    finally:
        cpu.failure.cache_clear()
        dispatch.warn_once.cache_clear()


@pytest.mark.parametrize("writable", ["user cache", "nowhere"])
def test_kernels_compile_where_the_package_folder_cannot_be_written(tmp_path: Path, writable: str):
    """Folders are denied by a file in their place: permissions do not stop an administrator."""
    program = """
import sys, numba.core.caching as caching
def denied(self): raise OSError("read-only")
caching.InTreeCacheLocator.ensure_cache_path = denied
if sys.argv[1] == "nowhere":
    caching.UserWideCacheLocator.ensure_cache_path = denied
from aaren.ops import kernels
print(len(kernels.forward.stats.cache_path) if sys.argv[1] != "nowhere" else "uncached")
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    result = subprocess.run(
        [sys.executable, "-c", program, writable], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    if writable == "user cache":
        assert any(tmp_path.rglob("ops_*"))
    else:
        assert result.stdout.strip() == "uncached"


def bad_calls() -> dict[str, tuple]:
    scores, values = inputs(2, 3, 4, 5)
    state = initial_prefix_state(2, 3, 5)
    half = PrefixState(*(tensor.bfloat16() for tensor in state))
    return {
        "no tokens": ((scores[..., :0], values[:, :, :0]), {}, ValueError, "no tokens"),
        "shapes": ((scores[:, :2], values), {}, ValueError, r"\[batch, heads, tokens"),
        "flat values": ((scores, values[0]), {}, ValueError, r"\[batch, heads, tokens"),
        "mixed dtypes": ((scores.double(), values), {}, TypeError, "cast one"),
        "integers": ((scores.long(), values.long()), {}, TypeError, "floating point"),
        "devices": ((scores, values.to("meta")), {}, ValueError, "meta"),
        "mask dtype": ((scores, values), {"valid": torch.ones(2, 4)}, TypeError, "bool"),
        "mask shape": ((scores, values), {"valid": torch.ones(4, 2, dtype=torch.bool)}, ValueError, "valid must be"),
        "mask device": (
            (scores, values),
            {"valid": torch.ones(2, 4, dtype=torch.bool, device="meta")},
            ValueError,
            "valid is on meta",
        ),
        "other batch": ((scores, values), {"state": initial_prefix_state(3, 3, 5)}, ValueError, "state.m has shape"),
        "other model": ((scores, values), {"state": initial_prefix_state(2, 3, 6)}, ValueError, "state.w has shape"),
        "state device": (
            (scores, values),
            {"state": initial_prefix_state(2, 3, 5, device="meta")},
            ValueError,
            "state.m is on meta",
        ),
        "half state": ((scores, values), {"state": half}, TypeError, "too coarse"),
        "unknown": ((scores, values), {"backend": "metal"}, ValueError, "available: auto, .*chunked, cpu"),
        "typing error": ((scores, values), {"backend": "chunk"}, ValueError, "did you mean 'chunked'"),
    }


@pytest.mark.parametrize("name", list(bad_calls()))
def test_bad_input_is_named(name: str):
    positional, named, error, message = bad_calls()[name]
    with pytest.raises(error, match=message):
        prefix_attention(*positional, **named)


def test_float32_state_is_widened_and_a_step_refuses_a_half_precision_one():
    scores, values = inputs(2, 3, 4, 5)
    narrow = PrefixState(*(tensor.float() for tensor in initial_prefix_state(2, 3, 5)))
    assert prefix_attention(scores, values, narrow)[1].w.dtype == torch.float64
    half = PrefixState(*(tensor.half() for tensor in narrow))
    with pytest.raises(TypeError, match="too coarse"):
        prefix_step(scores[..., 0], values[..., 0, :], half)


def test_the_gradient_of_the_last_state_may_come_in_any_layout():
    scores, values = (tensor.requires_grad_() for tensor in inputs(2, 3, 9, 4))
    grown = torch.randn(4, 3, 2).permute(2, 1, 0)
    found = []
    for backend in ("cpu", "chunked"):
        state = prefix_attention(scores, values, backend=backend)[1]
        found.append(torch.autograd.grad(state.w, [scores, values], grown.to(state.w.dtype)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
