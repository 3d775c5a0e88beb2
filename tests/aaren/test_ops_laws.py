"""What must hold whatever the numbers: causality, the operator's algebra, invariances, long streams."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aaren.ops import available_backends, combine, initial_prefix_state, prefix_attention, prefix_step

BACKENDS = available_backends()
EXACT = settings(max_examples=25, deadline=None, derandomize=True, database=None)
SEEDS = st.integers(0, 2**31)
LENGTHS = st.integers(1, 80)
SPREADS = st.sampled_from([0.0, 1.0, 5.0, 30.0, 1000.0])


def sample(seed: int, length: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 2, length, generator=generator) * spread
    return scores, torch.randn(2, 2, length, 3, generator=generator)


@pytest.mark.parametrize("backend", BACKENDS)
def test_later_tokens_change_no_earlier_output(backend: str):
    scores, values = sample(0, 70, 3.0)
    before, _ = prefix_attention(scores, values, backend=backend)
    for t in (1, 31, 32, 33, 69):
        other_scores, other_values = scores.clone(), values.clone()
        other_scores[:, :, t] += 1e4
        other_values[:, :, t] = -1e6
        after, _ = prefix_attention(other_scores, other_values, backend=backend)
        assert torch.equal(after[:, :, :t], before[:, :, :t])
        leaves = [scores.clone().requires_grad_(), values.clone().requires_grad_()]
        outputs, _ = prefix_attention(*leaves, backend=backend)
        for gradient in torch.autograd.grad(outputs[:, :, t - 1].sum(), leaves):
            assert (gradient[:, :, t:] == 0).all()


@EXACT
@given(seed=SEEDS, spread=SPREADS)
def test_combine_is_associative_and_commutative_with_an_identity(seed: int, spread: float):
    generator = torch.Generator().manual_seed(seed)

    def triple() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        m = torch.randn(4, generator=generator, dtype=torch.float64) * spread
        u = torch.rand(4, generator=generator, dtype=torch.float64) + 1
        return m, u, torch.randn(4, 3, generator=generator, dtype=torch.float64)

    a, b, c = triple(), triple(), triple()
    identity = tuple(tensor[0] for tensor in initial_prefix_state(1, 4, 3))
    pairs = [
        (combine(combine(a, b), c), combine(a, combine(b, c))),
        (combine(combine(a, identity), c), combine(a, combine(identity, c))),
        (combine(a, b), combine(b, a)),
    ]
    for left, right in pairs:
        for x, y in zip(left, right, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    for both in (combine(identity, a), combine(a, identity), combine(identity, combine(identity, a))):
        assert all(torch.equal(x, y) for x, y in zip(both, a, strict=True))
    for x, y in zip(combine(identity, identity), identity, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("backend", BACKENDS)
@EXACT
@given(seed=SEEDS, length=LENGTHS, spread=SPREADS, shift=st.floats(-100, 100))
def test_invariances(backend: str, seed: int, length: int, spread: float, shift: float):
    scores, values = sample(seed, length, spread)
    outputs, _ = prefix_attention(scores, values, backend=backend)

    # Shifting every score changes nothing. In float64, where the shift itself does not round the scores.
    wide = [scores.double(), values.double()]
    shifted, _ = prefix_attention(wide[0] + shift, wide[1], backend=backend)
    assert (shifted - prefix_attention(*wide, backend=backend)[0]).abs().max() <= 1e-5

    # An output lies between the smallest and the largest value of its prefix.
    assert (outputs <= values.cummax(2).values + 1e-5).all()
    assert (outputs >= values.cummin(2).values - 1e-5).all()

    constant, _ = prefix_attention(scores, values[:, :, :1].expand_as(values), backend=backend)
    assert (constant - values[:, :, :1]).abs().max() <= 1e-5

    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    mixed, _ = prefix_attention(scores[:, :, order], values[:, :, order], backend=backend)
    assert (mixed[:, :, -1] - outputs[:, :, -1]).abs().max() <= 1e-5


@pytest.mark.parametrize("score", [-800.0, 800.0, -1e30])
@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_from_zero_neither_underflow_nor_overflow(backend: str, score: float):
    values = torch.randn(1, 1, 40, 2)
    outputs, _ = prefix_attention(torch.full((1, 1, 40), score), values, backend=backend)
    means = values.double().cumsum(2) / torch.arange(1, 41)[:, None]
    assert (outputs - means).abs().max() <= 3e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_denormal_scores_and_values_are_neither_flushed_nor_lost(backend: str):
    """Of such scores every token weighs the same; the means of such values are right to one denormal step."""
    tiny = torch.finfo(torch.float32).tiny
    generator = torch.Generator().manual_seed(0)
    scores = ((torch.rand(2, 2, 70, generator=generator) - 0.5) * tiny).requires_grad_()
    values = ((torch.rand(2, 2, 70, 3, generator=generator) - 0.5) * tiny).requires_grad_()
    outputs, _ = prefix_attention(scores, values, backend=backend)
    means = values.detach().double().cumsum(2) / torch.arange(1, 71)[:, None]
    assert (outputs.detach() - means).abs().max() <= 2**-149
    by_scores, by_values = torch.autograd.grad(outputs.sum(), [scores, values])
    weights = (1 / torch.arange(1, 71, dtype=torch.float64)).flip(0).cumsum(0).flip(0)
    assert (by_values - weights[:, None]).abs().max() <= 3e-6
    assert by_scores.isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_score_that_is_no_number_shows_from_there_on(backend: str, bad: float):
    scores, values = torch.zeros(1, 1, 40), torch.ones(1, 1, 40, 2)
    scores[..., 35] = bad
    outputs, _ = prefix_attention(scores, values, backend=backend)
    assert outputs[:, :, 35:].isnan().all()


def stream(tokens: int, block: int) -> float:
    """Largest error, relative to the largest value, of a mean carried over `tokens` tokens by `prefix_attention`."""
    generator = torch.Generator().manual_seed(0)
    state = initial_prefix_state(1, 1, 2)
    total = torch.zeros(2, dtype=torch.float64)
    largest, error = 0.0, 0.0
    for first in range(0, tokens, block):
        values = torch.randn(1, 1, block, 2, generator=generator) + 1
        outputs, state = prefix_attention(torch.full((1, 1, block), 3.0), values, state, backend="cpu")
        sums = total + values[0, 0].double().cumsum(0)
        exact = sums / torch.arange(first + 1, first + block + 1)[:, None]
        total = sums[-1]
        largest = max(largest, values.abs().max().item())
        error = max(error, (outputs[0, 0] - exact).abs().max().item())
    return error / largest


def test_a_stream_of_100_000_tokens_stays_exact_in_constant_memory():
    assert stream(100_000, 4096) <= 1e-6
    state = initial_prefix_state(1, 1, 2)
    size = sum(tensor.nbytes for tensor in state)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2000, 1, 1, 2, generator=generator)
    scores = torch.randn(2000, 1, 1, generator=generator) * 5
    for s, v in zip(scores, values, strict=True):
        outputs, state = prefix_step(s, v, state)
    assert sum(tensor.nbytes for tensor in state) == size
    exact = scores.double().flatten().softmax(0) @ values[:, 0, 0].double()
    assert (outputs[0, 0] - exact).abs().max() <= 1e-6 * values.abs().max()


@pytest.mark.long
def test_a_stream_of_ten_million_tokens_stays_exact():
    assert stream(10_000_000, 1 << 16) <= 1e-6
