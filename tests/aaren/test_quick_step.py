"""The quick form of a step is the plain form, to float32: for few rows and many, and never from stale memory."""

from __future__ import annotations

import copy
import io
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from aaren import Aaren, Backbone, CausalSelfAttention, attention_names, fused_step, quick
from aaren.ops import PrefixState, dispatch, initial_prefix_state, prefix_step

D, H, N = 16, 4, 11
OPTIONS = [
    {},
    {"norm": "pre", "activation": "relu", "final_norm": False},
    {"mask_output": True, "qkv_bias": False, "n_heads": 1},
]


@pytest.fixture
def _served_by_the_library(monkeypatch: pytest.MonkeyPatch):
    """Every row takes the road of many rows, oneDNN's product and blocks of two rows included."""
    monkeypatch.setattr(fused_step, "_few", lambda rows, weights: False)
    monkeypatch.setattr(quick, "MANY", 0)
    monkeypatch.setattr(quick, "ROWS", 2)


def stack(name: str, **options) -> Backbone:
    torch.manual_seed(0)
    return Backbone(name, **({"d_model": D, "n_layers": 2, "n_heads": H, "d_ff": 24} | options)).eval()


def check_against_parallel(name: str, options: dict, rows: int) -> None:
    backbone = stack(name, **options)
    x, inject = torch.randn(rows, N, D), torch.randn(rows, N, D)
    valid = torch.rand(rows, N) < 0.7
    exact, _ = copy.deepcopy(backbone).double()(x.double(), valid, None, inject.double())
    with torch.no_grad():
        state, outputs = backbone.initial_state(rows), []
        for k in range(N):
            y, state = backbone.step(x[:, k], state, valid[:, k], inject[:, k])  # rows of x[:, k] are not contiguous
            outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1).double(), exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", attention_names())
@pytest.mark.parametrize("options", OPTIONS, ids=["post", "pre", "masked"])
def test_few_rows_equal_the_parallel_form(name, options):
    check_against_parallel(name, options, 3)


@pytest.mark.usefixtures("_served_by_the_library")
@pytest.mark.parametrize("name", attention_names())
@pytest.mark.parametrize("options", OPTIONS, ids=["post", "pre", "masked"])
def test_many_rows_equal_the_parallel_form(name, options):
    check_against_parallel(name, options, 5)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_state_of_many_rows_is_that_of_the_plain_step(threads, monkeypatch):
    monkeypatch.setattr(quick, "SHARED", 8)
    torch.set_num_threads(threads)
    mine, plain = initial_prefix_state(7, H, 5), initial_prefix_state(7, H, 5)
    for k in range(20):
        scores, values, valid = torch.randn(7, H) * 30, torch.randn(7, H, 5), torch.rand(7) < 0.8
        scores[0] = -torch.inf if k < 3 else scores[0]
        out = quick.absorb(torch.cat([values.flatten(1), scores], 1)[None], mine, valid)[0]
        expected, plain = prefix_step(scores, values, plain, valid)
        torch.testing.assert_close(out, expected.flatten(1), rtol=1e-6, atol=1e-6)
        for a, b in zip(mine, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_the_kernel_knows_gelu():
    """Beside torch's, over the whole range, its ends included."""
    feed = stack("none").blocks[0]
    nn.init.zeros_(feed.down.weight)
    width = 24
    one = fused_step.Feed(feed)
    with torch.no_grad():
        feed.up.weight.zero_()
        for start in torch.linspace(-12, 12, 40):
            feed.up.bias.copy_(torch.linspace(float(start), float(start) + 0.6, width))
            feed.down.weight.copy_(torch.eye(D, width))
            feed.norm_mlp.weight.fill_(1.0)
            x, mixed = torch.randn(1, D), torch.randn(1, D)
            torch.testing.assert_close(one.after(x, mixed), one._by_library(x, mixed), rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("name", ["aaren", "transformer"])
def test_what_is_not_plain_takes_the_plain_form(name):
    """A hook, an exchanged layer, a dropout left on: the step must see them, also when they come in mid-stream."""
    backbone, x = stack(name, n_layers=1), torch.randn(2, D)
    block = backbone.blocks[0]
    with torch.no_grad():
        _, state = backbone.step(x, backbone.initial_state(2))
        seen = []
        handles = [block.get_submodule(part).register_forward_hook(lambda m, i, o: seen.append(m))
                   for part in ("up", "attention.w_o")]  # fmt: skip
        backbone.step(x, state.clone())
        assert len(seen) == 2
        for handle in handles:
            handle.remove()
        before, _ = backbone.step(x, state.clone())
        block.down = nn.Linear(24, D)
        after, _ = backbone.step(x, state.clone())
        assert not torch.allclose(before, after)
        block.attention.w_o = nn.Sequential(nn.Linear(D, D))
        exchanged, _ = backbone.step(x, state.clone())
        assert not torch.allclose(exchanged, after)
        block.dropout.train()
        assert not torch.equal(backbone.step(x, state.clone())[0], backbone.step(x, state.clone())[0])


@pytest.mark.parametrize("name", ["aaren", "transformer"])
@pytest.mark.parametrize("change", ["in place", "data", "load", "assign", "optimiser", "double"])
def test_a_step_follows_its_parameters(name, change):
    """Whatever changes the parameters between two steps of a stream."""
    backbone, other, x = stack(name), Backbone(name, d_model=D, n_layers=2, n_heads=H, d_ff=24), torch.randn(2, D)
    with torch.no_grad():
        start = backbone.step(x, backbone.initial_state(2))[1]
    if change == "in place":
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.mul_(1.1)
    elif change == "data":
        for parameter, new in zip(backbone.parameters(), other.parameters(), strict=True):
            parameter.data = new.data
    elif change in ("load", "assign"):
        backbone.load_state_dict(other.state_dict(), assign=change == "assign")
    elif change == "optimiser":
        optimiser = torch.optim.Adam(backbone.parameters(), lr=0.1, fused=True)
        backbone(torch.randn(2, 3, D))[0].square().sum().backward()
        optimiser.step()
    else:
        backbone.double()
    dtype = torch.float64 if change == "double" else torch.float32
    state = start.clone() if change != "double" or name == "aaren" else start.to(dtype)
    with torch.no_grad():
        y, _ = backbone.step(x.to(dtype), state.clone())
        expected, _ = backbone(x[:, None].to(dtype), state=state)
    torch.testing.assert_close(y, expected[:, 0], rtol=2e-5, atol=2e-5)


def test_what_is_remembered_is_neither_copied_nor_saved():
    backbone, x = stack("aaren"), torch.randn(1, D)
    size = len(saved(backbone))
    with torch.no_grad():
        backbone.step(x, backbone.initial_state(1))
        assert len(saved(backbone)) == size
        twin = copy.deepcopy(backbone)
        for parameter in twin.parameters():
            parameter.add_(1.0)
        expected, _ = twin(x[:, None])
        torch.testing.assert_close(twin.step(x, twin.initial_state(1))[0], expected[:, 0], rtol=1e-5, atol=1e-5)


def saved(module: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(module, file)
    return file.getvalue()


def test_gradients_that_need_the_consumed_state_are_refused_not_wrong():
    backbone, x = stack("aaren"), torch.randn(2, 5, D)
    y, state = backbone(x)
    with torch.no_grad():
        backbone.step(x[:, 0], state)  # of a graph: the plain form, which leaves it alone
    y.sum().backward(retain_graph=True)
    with torch.no_grad():
        backbone.step(x[:, 0], state.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_inference_mode_inside_and_out():
    x = torch.randn(2, D)
    for name in attention_names():
        with torch.inference_mode():
            inside = stack(name)
            expected, state = inside.step(x, inside.initial_state(2))
            inside.step(x, state)
        backbone = stack(name)
        with torch.no_grad():
            y, state = backbone.step(x, backbone.initial_state(2))
        with torch.inference_mode():
            _, state = backbone.step(x, state)
        with torch.no_grad():
            backbone.step(x, state)
        torch.testing.assert_close(y, expected.clone(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["aaren", "transformer"])
def test_a_graph_and_a_vmap_see_torch_alone(name):
    backbone, x = stack(name, n_layers=1), torch.randn(2, D)
    with torch.no_grad():
        state = backbone.initial_state(2)
        expected, _ = backbone.step(x, state.clone())

        def once(x: torch.Tensor) -> torch.Tensor:
            return backbone.step(x, state.clone())[0]

        graph = make_fx(once)(x)
        torch.testing.assert_close(graph(x + 1), once(x + 1), rtol=1e-5, atol=1e-5)
        if name == "transformer":
            return  # its cache is written in place, which vmap refuses
        mapped = torch.vmap(lambda x: backbone.step(x[None], backbone.initial_state(1))[0][0])(x)
    torch.testing.assert_close(mapped, expected, rtol=1e-5, atol=1e-5)


def test_states_that_do_not_fit_are_refused():
    layer, x = Aaren(D, H).eval(), torch.randn(2, D)
    for wrong in (initial_prefix_state(3, H, D // H), initial_prefix_state(2, H, D), initial_prefix_state(1, 1, 1)):
        with torch.no_grad(), pytest.raises(ValueError, match="does not fit"):
            layer.step(x, wrong)
    half = PrefixState(*(t.half() for t in layer.initial_state(2)))
    with torch.no_grad(), pytest.raises(TypeError, match="float16"):
        layer.step(x, half)
    cached = CausalSelfAttention(D, H).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="state of 3 streams continued with a batch of 2"):
        cached.step(x, cached.initial_state(3))


def test_without_numba_plain_torch_serves_after_one_warning(monkeypatch: pytest.MonkeyPatch):
    backbone, x = stack("aaren"), torch.randn(2, D)
    with torch.no_grad():
        expected, _ = backbone.step(x, backbone.initial_state(2))
    monkeypatch.setitem(sys.modules, "aaren.ops.step_kernels", None)
    monkeypatch.delattr("aaren.ops.step_kernels")
    quick.failure.cache_clear()
    dispatch.warn_once.cache_clear()
    try:
        with torch.no_grad():
            with pytest.warns(RuntimeWarning, match=r"cannot run here \((ImportError|ModuleNotFoundError): "):
                y, state = backbone.step(x, backbone.initial_state(2))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                backbone.step(x, state)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    finally:
        quick.failure.cache_clear()
        dispatch.warn_once.cache_clear()
