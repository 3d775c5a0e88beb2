"""The kernels of a stream's step: one call does what would be ten of torch's, each dearer than its arithmetic.

A step's products are matrix times vector: they cost what it takes to read the weights.  With few rows (streams) every
row is multiplied while a row of the weights is in the cache; with many rows matrix products are better left to the
library, and only `absorb` is called, its rows shared among the threads of a `team`.  float32 throughout but for the
state and the statistics, which are float64.
Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
import math

import numpy as np

from aaren.ops.kernels import advance, compiled, inline, part
from aaren.ops.team import share

# numba keeps machine code until this file changes; what else goes into it has its digest here, held by a test.
MADE_WITH = {"kernels": "aa8926f7eebbf848", "team": "b66cf0b0cda0ed42"}

_SHARES = 4  # parts of the rows a thread: one that starts late leaves its own to the others

# erf(a) = a * sum_k c_k y^k with y = a^2 / 8 - 1 on |a| <= 4, and +-1 beyond: within 2e-8, for float32 results.
# Written as sums over a vector, since a call of the C library's erf for every element takes as long as the product.
_REACH = 4.0


def _erf_over_argument(y: float) -> float:
    a = math.sqrt(max(8.0 * (y + 1.0), 1e-18))
    return math.erf(a) / a


_ERF = np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebinterpolate(np.vectorize(_erf_over_argument), 22))


@inline
def _multiply(x, weight, bias, out):
    """out [R, o] = x [R, i] @ weight [o, i]^T + bias [o]."""
    for j in range(weight.shape[0]):
        row = weight[j]
        for r in range(x.shape[0]):
            total = np.float32(0.0)
            for i in range(row.shape[0]):
                total += row[i] * x[r, i]
            out[r, j] = total + bias[j]


@inline
def _normalise(x, gain, shift, eps, out):
    """LayerNorm of one row."""
    width = x.shape[0]
    mean = 0.0
    for i in range(width):
        mean += x[i]
    mean /= width
    variance = 0.0
    for i in range(width):
        variance += (x[i] - mean) * (x[i] - mean)
    scale = 1.0 / math.sqrt(variance / width + eps)
    for i in range(width):
        out[i] = np.float32((x[i] - mean) * scale) * gain[i] + shift[i]


@inline
def _gelu(x, y, total):
    """x [F] <- x (1 + erf(x / sqrt 2)) / 2; y and total [F] are room to work in."""
    for i in range(x.shape[0]):
        a = x[i] * math.sqrt(0.5)
        y[i] = a * a * 0.125 - 1.0
        total[i] = _ERF[22]
    for k in range(21, -1, -1):
        for i in range(x.shape[0]):
            total[i] = total[i] * y[i] + _ERF[k]
    for i in range(x.shape[0]):
        a = x[i] * math.sqrt(0.5)
        erf = 1.0 if a > _REACH else -1.0 if a < -_REACH else a * total[i]
        x[i] = 0.5 * x[i] * (1.0 + erf)


@inline
def _rows(rows, parts, task):
    """(first, stop) of part `task` of so many."""
    return rows * task // parts, rows * (task + 1) // parts


@inline
def _absorb(projected, m, u, w, valid, masked, out, first, stop):
    heads, dim = w.shape[1], w.shape[2]
    for b in range(first, stop):
        if masked and not valid[b]:
            out[b, :] = 0.0
            continue
        for h in range(heads):
            at = h * dim
            m[b, h], u[b, h], keep, weight = advance(np.float64(projected[b, heads * dim + h]), m[b, h], u[b, h])
            norm = 1.0 / u[b, h] if u[b, h] != 0.0 else 0.0
            w_row, v_row, out_row = w[b, h], projected[b, at : at + dim], out[b, at : at + dim]
            for d in range(dim):
                total = w_row[d] * keep + v_row[d] * weight
                w_row[d] = total
                out_row[d] = total * norm


@part
def _absorb_part(projected, m, u, w, valid, masked, out, parts, task):
    first, stop = _rows(m.shape[0], parts, task)
    for n in range(projected.shape[0]):
        _absorb(projected[n], m, u, w, valid, masked, out[n], first, stop)


@compiled
def absorb(team, threads, projected, m, u, w, valid, masked, out):
    """N tokens a row, one after another: the state m, u [B, H], w [B, H, D] in place, the heads' outputs in `out`.

    projected [N, B, H*D + H]: a token's values and, behind them, its scores; out [N, B, H*D].  Rows that are not
    `valid` [B] (if `masked`, and of one token) keep their state and give 0.
    """
    parts = _SHARES * threads
    share(team, threads, parts, _absorb_part, (projected, m, u, w, valid, masked, out, parts))


@compiled
def attend(x, weight, bias, m, u, w, valid, masked, out_weight, out_bias, y):
    """Aaren's step for few rows: x [B, d] to values and scores, `absorb`, output projection to y [B, d]."""
    projected = np.empty((x.shape[0], weight.shape[0]), x.dtype)
    heads = np.empty(x.shape, x.dtype)
    _multiply(x, weight, bias, projected)
    _absorb(projected, m, u, w, valid, masked, heads, 0, x.shape[0])
    _multiply(heads, out_weight, out_bias, y)


@inline
def _look_back(queries, new_keys, new_values, keys, values, valid, masked, length, out, first, stop):
    heads, dim = keys.shape[1], keys.shape[3]
    scale = np.float32(1.0 / math.sqrt(dim))
    weights, total_row = np.empty(length + 1, np.float32), np.empty(dim, np.float32)
    for b in range(first, stop):
        for h in range(heads):
            at = h * dim
            keys[b, h, length, :] = new_keys[b, at : at + dim]
            values[b, h, length, :] = new_values[b, at : at + dim]
            if masked and not valid[b, length]:
                out[b, at : at + dim] = 0.0
                continue
            query = queries[b, at : at + dim]
            top = np.float32(-np.inf)
            for n in range(length + 1):
                score = np.float32(0.0)
                for d in range(dim):
                    score += keys[b, h, n, d] * query[d]
                score *= scale
                if masked and not valid[b, n]:
                    score = np.float32(-np.inf)
                weights[n] = score
                if score > top or score != score:
                    top = score
            norm = 0.0
            total_row[:] = 0.0
            for n in range(length + 1):
                weight = np.float32(math.exp(weights[n] - top))
                norm += weight
                if weight != 0.0:  # what is not real may be anything
                    for d in range(dim):
                        total_row[d] += weight * values[b, h, n, d]
            for d in range(dim):
                out[b, at + d] = np.float32(total_row[d] / norm)


@part
def _look_back_part(queries, new_keys, new_values, keys, values, valid, masked, length, out, parts, task):
    first, stop = _rows(keys.shape[0], parts, task)
    _look_back(queries, new_keys, new_values, keys, values, valid, masked, length, out, first, stop)


@compiled
def look_back(team, threads, queries, new_keys, new_values, keys, values, valid, masked, length, out):
    """A Transformer's token a row: into the cache [B, H, C, D] at `length`, attention to all that is in it.

    queries, new_keys, new_values, out: [B, H*D]; valid [B, C] (if `masked`).
    """
    parts = _SHARES * threads
    shared = (queries, new_keys, new_values, keys, values, valid, masked, length, out, parts)
    share(team, threads, parts, _look_back_part, shared)


@compiled
def attend_cached(x, w_q, b_q, w_k, b_k, w_v, b_v, keys, values, valid, masked, length, out_weight, out_bias, y):
    """A Transformer's step for few rows: projections of x [B, d], `look_back`, output projection to y [B, d]."""
    queries, new_keys, new_values = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    _multiply(x, w_q, b_q, queries)
    _multiply(x, w_k, b_k, new_keys)
    _multiply(x, w_v, b_v, new_values)
    # What the heads give takes the place of the queries: a head's query is read before its output is written.
    _look_back(queries, new_keys, new_values, keys, values, valid, masked, length, queries, 0, x.shape[0])
    _multiply(queries, out_weight, out_bias, y)


@compiled
def feed(x, mixed, gain, shift, eps, up, up_bias, down, down_bias, gain_mlp, shift_mlp, eps_mlp, pre_norm, gelu, y):
    """The rest of a block for few rows: residual, LayerNorms and MLP; x, mixed (what the attention gave), y: [B, d].

    post-norm: z = norm(x + mixed), y = norm_mlp(z + mlp(z)); pre-norm: z = x + mixed, y = z + mlp(norm_mlp(z)).
    """
    rows, width = x.shape
    hidden, into = np.empty((rows, up.shape[0]), x.dtype), np.empty(x.shape, x.dtype)
    square, total = np.empty(up.shape[0]), np.empty(up.shape[0])
    for r in range(rows):
        for i in range(width):
            y[r, i] = x[r, i] + mixed[r, i]
        if pre_norm:
            _normalise(y[r], gain_mlp, shift_mlp, eps_mlp, into[r])
        else:
            _normalise(y[r], gain, shift, eps, y[r])
            into[r, :] = y[r]
    _multiply(into, up, up_bias, hidden)
    for r in range(rows):
        if gelu:
            _gelu(hidden[r], square, total)
        else:
            for i in range(hidden.shape[1]):
                if hidden[r, i] < 0.0:  # not max: NaN must pass
                    hidden[r, i] = 0.0
    _multiply(hidden, down, down_bias, into)
    for r in range(rows):
        for i in range(width):
            y[r, i] += into[r, i]
        if not pre_norm:
            _normalise(y[r], gain_mlp, shift_mlp, eps_mlp, y[r])
