"""Dropout: the asked probability, an exact expectation, independent elements, and torch's own contract."""

from __future__ import annotations

import pytest
import torch

from aaren.dropout import Dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_rate_scale_and_independence(p):
    torch.manual_seed(0)
    n = 400_003  # not a multiple of the four elements that one draw decides
    y = Dropout(p)(torch.ones(n))
    kept = (y != 0).double()
    error = (p * (1 - p) / n) ** 0.5
    assert abs(1 - kept.mean() - p) < 5 * error + 2**-17
    assert y[y != 0].unique().numel() == 1
    assert abs(y.double().mean() - 1) < 5 * error / (1 - p)
    # Elements decided by one draw, and by neighbouring ones, know nothing of each other.
    for lag in (1, 2, 3, 4, 5):
        together = (kept[:-lag] * kept[lag:]).mean()
        assert abs(together - kept.mean() ** 2) < 6 * (1 / n) ** 0.5
    for place in range(4):
        assert abs(kept[place::4].mean() - kept.mean()) < 12 * error


def test_the_gradient_is_the_mask():
    torch.manual_seed(0)
    x = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert torch.allclose(x.grad * x.detach(), y.detach())


def test_seeded_and_fresh_each_time():
    layer, x = Dropout(0.5), torch.ones(3, 5, 7)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(dtype):
    for shape in ((), (1,), (2, 3), (0, 4)):
        y = Dropout(0.4)(torch.ones(shape, dtype=dtype))
        assert y.dtype == dtype
        assert y.shape == shape


def test_nothing_happens_in_evaluation_or_without_a_probability():
    x = torch.randn(4, 4)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(4, 4))


def test_non_contiguous_input():
    torch.manual_seed(0)
    y = Dropout(0.5)(torch.ones(6, 8).T)
    assert y.shape == (8, 6)
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_a_compiled_graph_has_torchs_own():
    compiled = torch.compile(Dropout(0.5), backend="eager", fullgraph=True)
    torch.manual_seed(0)
    assert set(compiled(torch.ones(1000)).unique().tolist()) == {0.0, 2.0}
