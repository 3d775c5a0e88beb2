"""The fused forward kernel: columns of every number, rows written past the caches, tokens shared among threads."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from aaren.ops import PrefixState, fused, prefix_attention
from aaren.ops.vectors import KEPT, STREAMED, exp_below


def inputs(batch: int, heads: int, tokens: int, dim: int, *, inside: bool = False):
    """Scores and values; with `inside`, heads lie inside tokens in memory and rows are whole cache lines."""
    torch.manual_seed(tokens + dim)
    values = torch.randn(batch, tokens, heads, dim).transpose(1, 2)
    return 3 * torch.randn(batch, heads, tokens), values if inside else values.contiguous()


def close(ours: tuple[torch.Tensor, PrefixState], scores, values, valid=None) -> None:
    outputs, state = prefix_attention(scores.double(), values.double(), valid=valid, backend="masked_softmax")
    torch.testing.assert_close(ours[0].double(), outputs, rtol=0, atol=1e-6)
    for mine, exact in zip(ours[1], state, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 7, 8, 16, 23, 64, 90, 145])
@pytest.mark.parametrize("inside", [False, True])
def test_columns_in_pieces_of_every_size(dim: int, inside: bool):
    scores, values = inputs(2, 3, 70, dim, inside=inside)
    valid = torch.rand(2, 70) > 0.3
    for mask in (None, valid):
        close(prefix_attention(scores, values, valid=mask, backend="cpu"), scores, values, mask)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("dim", "how"), [(64, STREAMED), (48, STREAMED), (40, KEPT)])
def test_rows_written_past_the_caches_are_the_same(monkeypatch: pytest.MonkeyPatch, inside: bool, dim: int, how: int):
    scores, values = inputs(2, 3, 70, dim, inside=inside)
    valid = torch.rand(2, 70) > 0.3
    plain = prefix_attention(scores, values, valid=valid, backend="cpu")
    monkeypatch.setattr(fused, "LARGE", 0)
    assert fused.how_written(torch.empty_like(values)) == how
    past = prefix_attention(scores, values, valid=valid, backend="cpu")
    assert torch.equal(past[0], plain[0])
    assert all(torch.equal(a, b) for a, b in zip(past[1], plain[1], strict=True))


def test_rows_that_begin_inside_a_cache_line_are_not_written_past_the_caches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fused, "LARGE", 0)
    room = torch.empty(16 * 64 + 16)
    whole = room[-room.data_ptr() % 64 // 4 :]
    assert fused.how_written(whole[: 16 * 64].view(1, 1, 16, 64)) == STREAMED
    assert fused.how_written(whole[1 : 15 * 64 + 1].view(1, 1, 15, 64)) == KEPT


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 1, 700, 5), (1, 3, 700, 5), (3, 2, 90, 5)])
def test_tokens_and_rows_shared_among_threads(monkeypatch: pytest.MonkeyPatch, threads: int, shape: tuple):
    """Few rows in segments of the tokens, whose states are joined; more in shares of the rows."""
    scores, values = inputs(*shape, inside=shape[1] == 3)
    scores[0, 0, 3], scores[0, 0, 400 % shape[2] :] = -math.inf, -50.0
    valid = torch.rand(shape[0], shape[2]) > 0.2
    before = prefix_attention(*inputs(*shape), backend="cpu")[1]
    monkeypatch.setattr(fused, "SMALL", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    close(prefix_attention(scores, values, valid=valid, backend="cpu"), scores, values, valid)
    kept = [tensor.clone() for tensor in before]
    outputs, state = prefix_attention(scores, values, before, valid, backend="cpu")
    chunked = prefix_attention(scores.double(), values.double(), before, valid, backend="chunked")
    torch.testing.assert_close(outputs.double(), chunked[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(tuple(state), tuple(chunked[1]), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, kept, strict=True))


def test_the_exponential_is_that_of_the_library():
    @numba.njit
    def fill(x, y):
        for i in range(x.shape[0]):
            y[i] = exp_below(x[i])

    x = np.concatenate([-np.logspace(-18, math.log10(708.0), 4001), [0.0, -709.0, -1e300, -np.inf, np.nan]])
    y = np.empty_like(x)
    fill(x, y)
    np.testing.assert_allclose(y[:-5], np.exp(x[:-5]), rtol=5e-16)
    assert y[-5] == 1.0
    assert (y[-4:-1] == 0.0).all()
    assert np.isnan(y[-1])
