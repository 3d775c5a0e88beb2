"""Every backend against a float64 masked softmax: outputs, gradients, masks, states, splits."""

from __future__ import annotations

import functools

import pytest
import torch

from aaren.ops import PrefixState, available_backends, initial_prefix_state, prefix_attention, prefix_step

BACKENDS = available_backends()
LENGTHS = [1, 2, 3, 31, 32, 33, 60, 63, 100, 512, 1000, 2048]
SPREADS = [1, 3, 5, 8, 30, 100, 1000]
FLOAT32_ERROR = {"chunked": 3e-6}  # the others sum in float64
ROWS, DIM = 20, 4


@functools.cache
def case(length: int, spread: float | str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float32 scores [5, 4, N] and values, and their exact outputs by a softmax a row written for this test alone."""
    generator = torch.Generator().manual_seed(length)
    scores = torch.randn(5, 4, length, generator=generator)
    if isinstance(spread, str):
        ramp = torch.linspace(0, 200, length)
        scores = scores + (ramp if spread == "up" else ramp.flip(0))
    else:
        scores = scores * spread
    values = torch.randn(5, 4, length, DIM, generator=generator)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    exact = torch.empty(5, 4, length, DIM, dtype=torch.float64)
    for b in range(5):
        for h in range(4):
            table = scores[b, h].double().expand(length, length).masked_fill(future, -torch.inf)
            exact[b, h] = table.softmax(-1) @ values[b, h].double()
    return scores, values, exact


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_are_exact_at_every_length_and_spread_of_scores(backend: str, length: int):
    reading_forms = backend not in ("cpu", "chunked")
    # The forms that are there to be read are slow: at the longest inputs they get the spreads that hurt most.
    spreads = [5, 1000, "up"] if reading_forms and length >= 512 else [*SPREADS, "up", "down"]
    for spread in spreads:
        scores, values, exact = case(length, spread)
        pieces = range(5) if backend == "masked_softmax" else [slice(None)]  # it holds [rows, N, N]
        for piece in pieces:
            part = slice(piece, piece + 1) if isinstance(piece, int) else piece
            outputs, _ = prefix_attention(scores[part], values[part], backend=backend)
            error = (outputs.double() - exact[part]).abs().max().item()
            assert error <= FLOAT32_ERROR.get(backend, 5e-7), (spread, error)


def gradients(backend: str, inputs: list[torch.Tensor], valid: torch.Tensor | None) -> list[torch.Tensor]:
    """Of a random function of the outputs and of the final state, by scores, values and (m, u, w)."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    state = PrefixState(*leaves[2:]) if len(leaves) > 2 else None
    outputs, final = prefix_attention(leaves[0], leaves[1], state, valid, backend)
    generator = torch.Generator().manual_seed(0)
    loss = (outputs * torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)).sum()
    if state is not None:
        for tensor in final:
            loss = loss + (tensor * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)).sum()
    return list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "masked_softmax"])
def test_gradients_equal_those_of_the_softmax_form(backend: str):
    torch.manual_seed(0)
    for length in (1, 5, 33, 100):
        for spread in (0, 1, 5, 30, 1000):  # 0: every score ties for the maximum
            scores = torch.randn(2, 3, length, dtype=torch.float64) * spread
            values = torch.randn(2, 3, length, DIM, dtype=torch.float64)
            valid = torch.rand(2, length) > 0.3
            for mask in (None, valid):
                expected = gradients("masked_softmax", [scores, values], mask)
                for ours, exact in zip(gradients(backend, [scores, values], mask), expected, strict=True):
                    assert (ours - exact).abs().max() <= 1e-10
                single = gradients(backend, [scores.float(), values.float()], mask)
                expected = gradients("masked_softmax", [scores.float().double(), values.float().double()], mask)
                for ours, exact in zip(single, expected, strict=True):
                    bound = 1e-5 * exact.abs().max() + (1e-4 if spread >= 30 else 1e-12)
                    assert (ours.double() - exact).abs().max() <= bound, (length, spread)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_flow_through_the_state_in_and_out(backend: str):
    torch.manual_seed(1)
    state = [torch.randn(2, 3), torch.rand(2, 3) + 1, torch.randn(2, 3, DIM)]
    inputs = [torch.randn(2, 3, 9), torch.randn(2, 3, 9, DIM), *state]
    inputs = [tensor.double() for tensor in inputs]
    valid = torch.rand(2, 9) > 0.3

    def function(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs, final = prefix_attention(leaves[0], leaves[1], PrefixState(*leaves[2:]), valid, backend)
        return (outputs, *final)

    assert torch.autograd.gradcheck(function, [tensor.requires_grad_() for tensor in inputs])


def test_chunked_form_is_twice_differentiable():
    torch.manual_seed(2)
    inputs = [torch.randn(1, 2, 35, dtype=torch.float64), torch.randn(1, 2, 35, 1, dtype=torch.float64)]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradgradcheck(
        lambda s, v: prefix_attention(s, v, backend="chunked")[0], leaves, fast_mode=True
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("batch", "heads", "length", "dim"), [(1, 1, 9000, 16), (3, 2, 700, 64), (1, 2, 3000, 33)])
def test_threads_change_nothing(monkeypatch, threads: int, batch: int, heads: int, length: int, dim: int):
    """One row splits over tokens, several split over rows; a state is carried in, and some tokens are invalid."""
    monkeypatch.setattr("aaren.ops.fused.SMALL", 1 << 16)  # small work is shared here as large work is
    torch.manual_seed(3)
    torch.set_num_threads(threads)
    state = [torch.randn(batch, heads), torch.rand(batch, heads) + 1, torch.randn(batch, heads, dim)]
    inputs = [torch.randn(batch, heads, length) * 3, torch.randn(batch, heads, length, dim), *state]
    inputs = [tensor.double() for tensor in inputs]
    valid = torch.rand(batch, length) > 0.2
    for layout in (inputs[1], inputs[1].transpose(1, 2).contiguous().transpose(1, 2)):
        inputs[1] = layout
        outputs, final = prefix_attention(*inputs[:2], PrefixState(*inputs[2:]), valid, "cpu")
        exact, exact_final = prefix_attention(*inputs[:2], PrefixState(*inputs[2:]), valid, "chunked")
        assert (outputs - exact).abs().max() <= 1e-12
        for ours, theirs in zip(final, exact_final, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        for ours, theirs in zip(gradients("cpu", inputs, valid), gradients("chunked", inputs, valid), strict=True):
            assert (ours - theirs).abs().max() <= 1e-10 * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_leave_no_trace_of_invalid_tokens(backend: str):
    torch.manual_seed(4)
    length = 70
    scores, values = torch.randn(1, 2, length) * 5, torch.randn(1, 2, length, DIM)
    index = torch.arange(length)
    masks = {"prefix": index >= 40, "suffix": index < 40, "middle": (index < 20) | (index >= 45), "all": index < 0}
    for name, keep in masks.items():
        garbage = values.clone()
        garbage[:, :, ~keep] = torch.nan  # what padding holds must not matter
        noisy = scores.masked_fill(~keep, torch.nan)
        leaves = [noisy.requires_grad_(), garbage.requires_grad_()]
        outputs, state = prefix_attention(*leaves, valid=keep[None], backend=backend)
        assert (outputs[:, :, ~keep] == 0).all(), name
        for gradient in torch.autograd.grad(outputs.sum() + state.w.sum(), leaves):
            assert gradient.isfinite().all(), name
            assert (gradient[:, :, ~keep] == 0).all(), name
        if name == "all":
            for ours, empty in zip(state, initial_prefix_state(1, 2, DIM), strict=True):
                assert torch.equal(ours, empty)
        else:
            alone, _ = prefix_attention(scores[:, :, keep], values[:, :, keep], backend=backend)
            assert (outputs[:, :, keep] - alone).abs().max() <= 1e-6, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_step_and_every_split_equal_the_whole(backend: str):
    torch.manual_seed(5)
    batch, length = 3, 40
    scores, values = torch.randn(batch, 2, length) * 8, torch.randn(batch, 2, length, DIM)
    valid = torch.rand(batch, length) > 0.3
    valid[1] = False
    whole, final = prefix_attention(scores, values, valid=valid, backend=backend)
    state = initial_prefix_state(batch, 2, DIM)
    for k in range(length):
        outputs, state = prefix_step(scores[..., k], values[..., k, :], state, valid[:, k])
        assert (outputs - whole[:, :, k]).abs().max() <= 3e-6
    for ours, theirs in zip(state, final, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for k in range(1, length):
        left, middle = prefix_attention(scores[..., :k], values[..., :k, :], None, valid[:, :k], backend)
        right, _ = prefix_attention(scores[..., k:], values[..., k:, :], middle, valid[:, k:], backend)
        assert (torch.cat([left, right], 2) - whole).abs().max() <= 3e-6
