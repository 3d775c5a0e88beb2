"""A few tokens a stream at once are what the parallel form gives, whatever is read and whoever is asked."""

from __future__ import annotations

import copy

import pytest
import torch

from aaren import Backbone, attention_names, fused_step, quick
from aaren.few_tokens import extend
from aaren.quick import Plain

D, B = 16, 5
GROUPS = (2, 3, 1, 4)  # tokens that come together
OPTIONS = [{}, {"norm": "pre", "activation": "relu", "final_norm": False}, {"qkv_bias": False, "n_heads": 1}]


def stack(name: str, **options) -> Backbone:
    torch.manual_seed(0)
    return Backbone(name, **({"d_model": D, "n_layers": 2, "n_heads": 4, "d_ff": 24} | options)).eval()


def check(backbone: Backbone, read: slice | torch.Tensor | None) -> None:
    """Group after group, against the parallel form in float64 over all of them."""
    x = torch.randn(B, sum(GROUPS), D)
    whole, _ = copy.deepcopy(backbone).double()(x.double())
    state, first = None, 0
    for tokens in GROUPS:
        part = slice(first, first + tokens)
        y, state = extend(backbone, x[:, part], state, read)
        expected = whole[:, part] if read is None else whole[:, part][:, read]
        torch.testing.assert_close(y.double(), expected, rtol=2e-5, atol=2e-5)
        first += tokens


@pytest.mark.parametrize("read", [None, slice(-1, None), torch.tensor([0])], ids=["all", "last", "first"])
@pytest.mark.parametrize("name", attention_names())
@pytest.mark.parametrize("options", OPTIONS, ids=["post", "pre", "no bias"])
def test_groups_of_tokens_equal_the_parallel_form(name, options, read):
    with torch.inference_mode():
        check(stack(name, **options), read)


def test_many_rows_go_through_the_librarys_products(monkeypatch):
    monkeypatch.setattr(fused_step, "_few", lambda rows, weights: False)
    monkeypatch.setattr(quick, "MANY", 0)
    with torch.no_grad():
        check(stack("aaren"), slice(-1, None))


def test_it_goes_on_from_a_step_and_a_step_from_it():
    backbone, x = stack("aaren"), torch.randn(B, 5, D)
    with torch.no_grad():
        expected, _ = backbone(x)
        _, state = backbone.step(x[:, 0], backbone.initial_state(B))
        y, state = extend(backbone, x[:, 1:4], state)
        last, _ = backbone.step(x[:, 4], state)
    torch.testing.assert_close(torch.cat([y, last[:, None]], 1), expected[:, 1:], rtol=2e-5, atol=2e-5)


def test_a_changed_parameter_counts_at_once():
    backbone, x = stack("aaren"), torch.randn(B, 3, D)
    with torch.no_grad():
        before, _ = extend(backbone, x)
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
        after, _ = extend(backbone, x)
        expected, _ = backbone(x)
    torch.testing.assert_close(after, expected, rtol=2e-5, atol=2e-5)
    assert (after - before).abs().max() > 1e-2


def test_where_the_quick_form_cannot_serve_it_is_the_parallel_form(monkeypatch):
    backbone, x = stack("aaren"), torch.randn(B, 3, D)
    y, _ = extend(backbone, x)  # gradients are on
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    heard = []
    backbone.blocks[0].up.register_forward_hook(lambda *_: heard.append("up"))
    backbone.blocks[1].attention.w_o.register_forward_hook(lambda *_: heard.append("w_o"))
    with torch.no_grad():
        check(backbone, None)
        heard.clear()
        extend(backbone, x)
    assert heard == ["up", "w_o"]
    quiet = stack("aaren")
    monkeypatch.setattr(quick, "consumable", lambda *_: False)
    with torch.no_grad():
        check(quiet, None)
    assert isinstance(quiet.blocks[0]._remembered.value, Plain), "the rest of the block is still served"


def test_what_does_not_fit_is_refused_as_by_the_parallel_form():
    backbone = stack("aaren")
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"x has shape \(5, 3, 15\)"):
            extend(backbone, torch.ones(5, 3, 15))
        with pytest.raises(ValueError, match="no tokens"):
            extend(backbone, torch.ones(5, 0, 16))
        with pytest.raises(ValueError, match="picks none of 3 tokens"):
            extend(backbone, torch.ones(5, 3, 16), read=slice(3, None))
        with pytest.raises(ValueError, match="state of a stack of 2 layers"):
            extend(stack("aaren", n_layers=1), torch.ones(5, 3, 16), backbone.initial_state(5))
