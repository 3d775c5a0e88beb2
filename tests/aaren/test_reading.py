"""`read`: the outputs at some tokens, the same numbers and gradients as picking them afterwards, for less work."""

from __future__ import annotations

import pytest
import torch

from aaren import Attention, Backbone, CausalMean, State, attention_names

B, N, D, H = 3, 12, 16, 4
READS = {
    "every third": slice(1, None, 3),
    "last": slice(-1, None),
    "positions": torch.tensor([7, 0, 7, -1]),
    "all": slice(None),
}
OPTIONS = [{}, {"norm": "pre"}, {"mask_output": True, "final_norm": False, "n_layers": 1}]


class Unaware(CausalMean):
    """A user's own attention, written before `read` existed."""

    def forward(self, x, valid=None, state=None):
        return super().forward(x, valid, state)


def stack(attention: str | type[Attention], **options) -> Backbone:
    torch.manual_seed(0)
    return Backbone(attention, **({"d_model": D, "n_layers": 2, "n_heads": H, "d_ff": 24, "dropout": 0.0} | options))


def results(backbone: Backbone, read, picked: bool) -> tuple[torch.Tensor, State, list[torch.Tensor]]:
    """Outputs at `read`, picked afterwards or not, the state, and every gradient of a loss on them."""
    make = torch.Generator().manual_seed(1)
    x, inject = (torch.randn(B, N, D, generator=make).requires_grad_() for _ in range(2))
    valid = torch.arange(N) < torch.tensor([[12], [8], [3]])
    first, state = backbone(x[:, :4], valid[:, :4])
    y, state = backbone(x, valid, state, inject, read=None if picked else read)
    y = y[:, read] if picked else y
    weights = torch.randn(y.shape, generator=make)
    inputs = [x, inject, *backbone.parameters()]
    return y, state, list(torch.autograd.grad((y * weights).sum() + first.sum(), inputs))


@pytest.mark.parametrize("attention", [*attention_names(), Unaware])
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize("options", OPTIONS, ids=["post", "pre", "masked"])
def test_it_equals_picking_afterwards(attention, read, options):
    backbone = stack(attention, **options)
    y, state, gradients = results(backbone, read, picked=False)
    expected, whole_state, expected_gradients = results(backbone, read, picked=True)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    for mine, whole in zip(state.tensors, whole_state.tensors, strict=True):
        assert torch.equal(mine, whole)
    for mine, whole in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["aaren", "transformer", "mean", "none"])
def test_the_last_block_works_at_the_tokens_read_only(attention):
    backbone, seen = stack(attention), {}
    for i, block in enumerate(backbone.blocks):
        for part in ("up", "norm_mlp"):
            block.get_submodule(part).register_forward_hook(
                lambda m, inputs, y, key=(i, part): seen.update({key: y.shape[1]})
            )
        block.attention.w_o.register_forward_hook(lambda m, inputs, y, key=(i, "w_o"): seen.update({key: y.shape[1]}))
    backbone(torch.randn(B, N, D), read=slice(1, None, 3))
    assert seen == {(i, part): (N if i == 0 else 4) for i in (0, 1) for part in ("up", "norm_mlp", "w_o")}


@pytest.mark.parametrize(
    ("read", "error", "words"),
    [
        (slice(12, None), ValueError, "none of 12 tokens"),
        (torch.zeros(0, dtype=torch.int64), ValueError, "none of 12 tokens"),
        (torch.ones(N, dtype=torch.bool), TypeError, "torch.bool of shape"),
        (torch.zeros(2, 2, dtype=torch.int64), TypeError, r"\(2, 2\)"),
        (torch.tensor([12]), IndexError, "out of bounds"),
    ],
)
def test_impossible_tokens_are_refused(read, error, words):
    with pytest.raises(error, match=words):
        stack("aaren")(torch.zeros(B, N, D), read=read)
