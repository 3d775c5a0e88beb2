"""Linear maps by oneDNN: the same numbers and gradients as torch's, and out of the way wherever torch's are wanted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from aaren import linear as module
from aaren.linear import Linear, linear, onednn

needs_onednn = pytest.mark.skipif(onednn() is None, reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def _every_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "ROWS", 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that oneDNN was given."""
    product, seen = onednn(), []
    assert product is not None

    def counted(x, weight, bias):
        seen.append(tuple(x.shape))
        return product(x, weight, bias)

    monkeypatch.setattr(module, "onednn", lambda: counted)
    return seen


@needs_onednn
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("shape", "width"), [((5, 7, 16), 24), ((9, 40), 3), ((33,), 5), ((2, 3, 4, 6), 129)])
def test_outputs_and_gradients_are_torchs(calls: list, shape: tuple[int, ...], width: int, biased: bool):
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(width, shape[-1])
    bias = torch.randn(width) if biased else None
    results = []
    for function in (linear, F.linear):
        inputs = [t.clone().requires_grad_() for t in (x, weight, bias) if t is not None]
        y = function(*inputs, *([] if biased else [None]))
        gradients = torch.autograd.grad(y.sin().sum(), inputs)
        results.append((y, *gradients))
    assert len(calls) == 3  # forward, the gradient of x, that of the weight
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_only_the_gradients_that_are_wanted_are_made(calls: list):
    x, weight = torch.randn(6, 8), torch.randn(4, 8, requires_grad=True)
    linear(x, weight, None).sum().backward()
    assert len(calls) == 2
    assert x.grad is None
    assert torch.allclose(weight.grad, x.sum(0).expand(4, 8), atol=1e-5)


@needs_onednn
def test_strided_inputs_and_gradients(calls: list):
    x, weight = torch.randn(8, 6).T.requires_grad_(), torch.randn(8, 4).T.requires_grad_()
    y = linear(x, weight, None)
    (y.T * torch.arange(6.0)).sum().backward()
    ours = x.grad, weight.grad
    again = [t.detach().clone().requires_grad_() for t in (x, weight)]
    (F.linear(*again).T * torch.arange(6.0)).sum().backward()
    for mine, theirs in zip(ours, again, strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-5, atol=1e-5)


def test_it_can_be_differentiated_twice():
    torch.manual_seed(0)
    x, weight = (torch.randn(shape, requires_grad=True) for shape in ((3, 4), (5, 4)))
    second = []
    for function in (linear, F.linear):
        (first,) = torch.autograd.grad(function(x, weight, None).pow(3).sum(), x, create_graph=True)
        second.append(torch.autograd.grad(first.pow(2).sum(), (x, weight)))
    for ours, theirs in zip(*second, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@needs_onednn
def test_torch_keeps_what_is_not_plain(calls: list):
    layer, x = Linear(8, 4), torch.randn(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 3 * 8 * 4
    torch.testing.assert_close(torch.vmap(layer)(x), F.linear(x, layer.weight, layer.bias))
    Linear(8, 4, dtype=torch.float64)(x.double())
    assert calls == []
    layer(x)
    assert calls == [(3, 8)]


@needs_onednn
def test_small_products_and_batches_of_any_length_are_left_to_torch(calls: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LARGE", 6 * 8 * 4)
    monkeypatch.setattr(module, "ROWS", 3)
    layer = Linear(8, 4)
    for rows in (3, 5, 7, 8):
        layer(torch.randn(rows, 8))
    assert calls == []
    for shape in ((6, 8), (3, 3, 8)):
        layer(torch.randn(shape))
    assert calls == [(6, 8), (9, 8)]


def test_a_torch_without_onednn_is_served(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "onednn", lambda: None)
    layer, x = Linear(8, 4), torch.randn(3, 8)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_it_starts_as_torchs_and_is_one():
    torch.manual_seed(0)
    ours = Linear(6, 5)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(6, 5)
    assert isinstance(ours, torch.nn.Linear)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.weight, theirs.weight)
