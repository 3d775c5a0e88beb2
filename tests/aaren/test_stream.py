"""`Stream` hides the state: the same numbers as the parallel form, rows of their own, and clear words for misuse."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.utils import _pytree as pytree

from aaren import Attention, Backbone, PrefixState, State, Stream, attention_names, prefix_attention
from aaren.stream import _check_layer

B, N, D = 3, 9, 16
X = torch.randn(B, N, D, generator=torch.Generator().manual_seed(2))


class LastTwo(Attention):
    """A user's own attention: the mean of this token and the last, with a state of its own kind."""

    def forward(self, x, valid=None, state=None):
        before = torch.zeros_like(x[:, 0]) if state is None else state.last
        shifted = torch.cat([before[:, None], x[:, :-1]], 1)
        return self.w_o(self.w_v(x + shifted) / 2), Last(x[:, -1])

    def step(self, x_t, state, valid_t=None):
        return self.w_o(self.w_v(x_t + state.last) / 2), Last(x_t)

    def initial_state(self, batch):
        return Last(torch.zeros(batch, self.d_model))


@dataclass
class Last:
    last: torch.Tensor


pytree.register_dataclass(Last, field_names=["last"])

EVERY = [*attention_names(), LastTwo]


def stack(attention="aaren", **options) -> Backbone:
    torch.manual_seed(0)
    return Backbone(attention, **({"d_model": D, "n_layers": 2, "n_heads": 4, "d_ff": 24} | options)).eval()


@pytest.mark.parametrize("attention", EVERY)
def test_one_by_one_together_and_forked(attention):
    backbone = stack(attention)
    with torch.no_grad():
        whole, _ = backbone(X)
    stream = Stream(backbone, B)
    first = torch.stack([stream(X[:, k]) for k in range(3)], 1)
    middle = stream.extend(X[:, 3:6])
    other, kept = stream.fork(), stream.state
    last = torch.stack([stream(X[:, k]) for k in range(6, N)], 1)
    torch.testing.assert_close(torch.cat([first, middle, last], 1), whole, rtol=1e-5, atol=1e-5)
    assert not last.requires_grad
    again = torch.stack([other(X[:, k]) for k in range(6, N)], 1)
    assert torch.equal(again, last)
    stream.state = kept
    assert torch.equal(stream(X[:, 6]), last[:, 0])
    stream.state = kept  # not consumed by the step above
    assert torch.equal(stream(X[:, 6]), last[:, 0])


@pytest.mark.parametrize("attention", EVERY)
@pytest.mark.parametrize("rows", [None, [0, 2], slice(1, None), torch.tensor([False, True, False])])
def test_reset_forgets_these_rows_only(attention, rows):
    backbone = stack(attention)
    stream, steady, new = (Stream(backbone, B) for _ in range(3))
    for s in (stream, steady):
        s.extend(X[:, :5])
    stream.reset(rows)
    reset = torch.zeros(B, dtype=torch.bool)
    reset[slice(None) if rows is None else rows] = True
    for k in range(5, N):
        y, forgot, knew = stream(X[:, k]), new(X[:, k]), steady(X[:, k])
        torch.testing.assert_close(y, torch.where(reset[:, None], forgot, knew), rtol=1e-5, atol=1e-5)


def test_size_is_constant_and_rows_rest():
    stream = Stream(stack(), 2)
    size = stream.nbytes
    assert size == 2 * 2 * (4 * 2 + D) * 8
    stream(X[:2, 0])
    kept = stream.state
    assert torch.equal(stream(X[:2, 1], torch.tensor([True, False]))[1].isfinite(), torch.ones(D, dtype=torch.bool))
    for before, after in zip(kept.tensors, stream.state.tensors, strict=True):
        assert torch.equal(before[1], after[1])
        assert not torch.equal(before[0], after[0])
    assert stream.nbytes == size


@pytest.mark.parametrize(
    "steps", [100_000, pytest.param(10_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_a_stream_of_many_tokens_stays_exact(steps):
    """Tokens of four scales against the parallel form in float64: relative to the largest value, 1e-6."""
    piece = 2_000
    from aaren import quick
    from aaren.ops import initial_prefix_state

    make = torch.Generator().manual_seed(3)
    state, exact, worst, largest = initial_prefix_state(1, 4, 2), None, 0.0, 0.0
    for _ in range(steps // piece):
        scores = torch.randn(1, 4, piece, generator=make) * torch.tensor([0.1, 1.0, 5.0, 30.0])[:, None]
        values = torch.randn(1, 4, piece, 2, generator=make)
        expected, exact = prefix_attention(scores.double(), values.double(), exact, backend="chunked")
        tokens = torch.cat([values.transpose(1, 2).flatten(2), scores.transpose(1, 2)], -1)[0]
        got = torch.cat([quick.absorb(token[None, None], state)[0] for token in tokens])
        largest = max(largest, values.abs().max().item())
        worst = max(worst, (got.unflatten(-1, (4, 2)).transpose(0, 1) - expected[0]).abs().max().item())
    assert worst <= 1e-6 * largest


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Stream(stack(), 0), "batch=0"),
        (lambda: Stream(stack().train()), "training mode"),
        (lambda: turned_to_training()(X[:1, 0]), "training mode"),
        (lambda: Stream(stack(), 2)(X[:, 0]), "3 rows, but there are 2 streams"),
        (lambda: Stream(stack(), B)(X[:, 0].double()), "torch.float64 and the backbone torch.float32"),
        (lambda: Stream(stack(), B)(X[:, 0].to("meta")), "is on meta"),
        (lambda: Stream(stack(), B)(X[:, 0], None, X[:, 0].double()), "inject is torch.float64"),
        (lambda: Stream(stack(), B).extend(X[:, :0]), "no tokens"),
        (lambda: assign(Stream(stack(n_layers=1), B).state), "1 layers given to a backbone of 2"),
        (lambda: assign(Stream(stack(), 2).state), "another batch"),
        (lambda: assign(Stream(stack(n_heads=2), B).state), "another model"),
        (lambda: assign(Stream(stack("transformer"), B).state), "is a KeyValueCache"),
        (lambda: assign(Stream(stack(), B).state.to(torch.float16)), "torch.float16"),
        (lambda: Growing().forget([0], State((PrefixState(X[0, :1], X[0, :1], X[:1]),))), "forget"),
    ],
)
def test_misuse_is_told(use, words):
    with pytest.raises(ValueError, match=words):
        use()


def Growing() -> State:
    return State((PrefixState(X[0, :2], X[0, :2], X[:2]),))


def turned_to_training() -> Stream:
    stream = Stream(stack())
    stream.backbone.train()
    return stream


def assign(state: State) -> None:
    Stream(stack(), B).state = state


def test_a_longer_cache_and_one_with_a_mask_fit():
    stream = Stream(stack("transformer"), B)
    for k in range(N):
        stream(X[:, k], torch.tensor([True, k % 2 == 0, False]))
    fresh = Stream(stack("transformer"), B)
    fresh.state = stream.state
    assert torch.equal(fresh(X[:, 0]), stream(X[:, 0]))
    with pytest.raises(ValueError, match="another batch"):
        _check_layer("state", Stream(stack("transformer"), 2).state.layers[0], stream.state.layers[0])
