"""The fused forward kernel of the CPU, one pass over the tokens of each (batch, head) row, and how kernels compile.

The recurrence is that of the triple (m, u, w), its sums float64. First the factors of a run of tokens are made from
the scores (`_weigh`), then their values pass by the sums (`passes.absorb`).

Tensors with a token axis come flat, with an (offset, batch, head, token) stride tuple, so that no layout needs a
copy; their last axis is contiguous. `together` heads are advanced token by token (all of them where heads lie inside
tokens in memory, else 1). A part of a call is (first row, stop, first token, stop, before, after, how): rows count
batch * heads; the sums start from states[before] and end in states[after], or from none and nowhere.
Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
import inspect
import math

import numba
import numpy as np

from aaren.ops.passes import absorb
from aaren.ops.team import settle, share
from aaren.ops.vectors import HIDDEN, STREAMED, exp_below

LINE = 64  # bytes of a cache line
RUN = 64  # most tokens whose factors are made before their values are read
TURN = 8  # most tokens of a head's turn where heads lie inside tokens
AHEAD = 32  # tokens from the one at work to the one asked of memory: a processor itself looks no further than a page
NONE = -1  # no state: sums start empty, or are not kept

# numba keeps machine code until this file changes; what else goes into it has its digest here, held by a test.
MADE_WITH = {"passes": "946ddbe08433f734", "team": "b66cf0b0cda0ed42", "vectors": "28474dc2c2da7c74"}

# No flag that lets the compiler assume away NaN or infinity: they must pass through.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}


def compiled(function):
    """Compile at the first call and keep the machine code on disk where some cache folder can be written."""
    function = inspect.unwrap(function)  # a run-time type checker's wrapper is nothing numba could compile
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no folder to write to: neither beside this file nor the user's own
        return numba.njit(**_OPTIONS)(function)


def inline(function):
    return numba.njit(inline="always", **_OPTIONS)(inspect.unwrap(function))


def part(function):
    """A function of compiled code alone, compiled with each that calls it."""
    return numba.njit(**_OPTIONS)(inspect.unwrap(function))


@inline
def advance(s, m, u):
    """(m, u) after a score s, with the factors of the old sums and of the new token."""
    if s > m:
        keep = math.exp(m - s)
        weight = math.exp(s - s)  # 1, but nan for a score of +inf
        m = s
    elif s == -math.inf:
        keep, weight = 1.0, 0.0
    else:
        keep, weight = 1.0, math.exp(s - m)
    return m, u * keep + weight, keep, weight


@part
def _weigh(scores, s, s_stride, valid, masked, b, tokens, m, u, top, i, keeps, weights, norms):
    """Pass scores, one for each of `weights`, by m[i] and u[i]: the factors `advance` gives, and in norms 1 / u.

    An invalid token is one with score -inf: it keeps the sums as they are.
    """
    first, count = tokens[0], tokens[1] - tokens[0]
    keeps, weights, norms = keeps[i * RUN :][:count], weights[i * RUN :][:count], norms[i * RUN :][:count]
    largest = m[i]
    for t in range(count):
        score = np.float64(scores[s + t * s_stride])
        if masked and not valid[b, first + t]:
            score = -math.inf
        keeps[t] = 1.0
        if score > largest:
            keeps[t] = math.exp(largest - score)
            largest = score
            top[i] = first + t
        weights[t] = score if score == -math.inf else score - largest  # of +inf: nan
    for t in range(count):
        weights[t] = exp_below(weights[t])
    total = u[i]
    for t in range(count):
        total = total * keeps[t] + weights[t]
        norms[t] = total
    for t in range(count):
        norms[t] = 1.0 / norms[t] if norms[t] != 0.0 else 0.0
    m[i], u[i] = largest, total


@part
def _weigh_hidden(scores, s, s_stride, valid, masked, b, tokens, m, u, top, i, weights):
    """For tokens without outputs: weights that all are those of the last maximum, and the factor of the old sums."""
    first, count = tokens[0], tokens[1] - tokens[0]
    weights = weights[i * RUN :][:count]
    largest = m[i]
    for t in range(count):
        score = np.float64(scores[s + t * s_stride])
        if masked and not valid[b, first + t]:
            score = -math.inf
        weights[t] = score
        if score > largest:
            largest = score
            top[i] = first + t
    for t in range(count):
        weights[t] = exp_below(weights[t] if weights[t] == -math.inf else weights[t] - largest)
    keep = 1.0 if largest == m[i] else math.exp(m[i] - largest)
    total = 0.0
    for t in range(count):
        total += weights[t]
    m[i], u[i] = largest, u[i] * keep + total
    return keep


@part
def _scan(scores, s_at, values, v_at, valid, masked, states, out, o_at, gates, gated, together, parts, task):
    """One part of a call: outputs (unless `HIDDEN`), gates (when `gated`) and the state after it.

    how: `HIDDEN` (the state alone, for the tokens after these), `KEPT` or `STREAMED`, see `passes.absorb`. The sums
    at work are arrays of their own: two threads with sums in one cache line took longer than one thread alone.
    """
    row, row_stop, token, token_stop, before, after, how = parts[task]
    m_all, u_all, w_all, top_all = states
    heads, dim = w_all.shape[2], w_all.shape[3]
    ahead = AHEAD if together == 1 else TURN
    keeps, weights, norms = np.empty(together * RUN), np.empty(together * RUN), np.empty(together * RUN)
    m, u, w, top = np.empty(together), np.empty(together), np.empty((together, dim)), np.empty(together, np.int64)
    for b in range(row // heads, (row_stop + heads - 1) // heads):
        h_end = min(heads, row_stop - b * heads)
        for h_first in range(max(0, row - b * heads), h_end, together):
            h_stop = min(h_first + together, h_end)
            for h in range(h_first, h_stop):
                i = h - h_first
                if before == NONE:
                    m[i], u[i], w[i], top[i] = -math.inf, 0.0, 0.0, -1
                else:
                    m[i], u[i], w[i] = m_all[before, b, h], u_all[before, b, h], w_all[before, b, h]
                    top[i] = top_all[before, b, h]
            for first in range(token, token_stop, RUN):
                stop = min(first + RUN, token_stop)
                for h in range(h_first, h_stop):
                    i = h - h_first
                    at = i * RUN
                    run = (first, stop)
                    s = s_at[0] + b * s_at[1] + h * s_at[2] + first * s_at[3]
                    if how == HIDDEN:
                        factor = _weigh_hidden(scores, s, s_at[3], valid, masked, b, run, m, u, top, i, weights)
                        if factor != 1.0:
                            for d in range(dim):
                                w[i, d] *= factor
                        continue
                    _weigh(scores, s, s_at[3], valid, masked, b, run, m, u, top, i, keeps, weights, norms)
                    if gated:
                        for t in range(stop - first):
                            gates[b, h, first + t] = weights[at + t] * norms[at + t]
                n = first
                while n < stop:
                    # Heads that lie inside tokens take short turns, for the next of which memory is asked ahead:
                    # processors do so by themselves only where memory is walked in its order.
                    real, n_stop = not masked or valid[b, n], stop if together == 1 else min(stop, n + TURN)
                    n_next = n + 1 if masked else n_stop
                    while n_next < n_stop and real == valid[b, n_next]:
                        n_next += 1
                    for h in range(h_first, h_stop):
                        v = v_at[0] + b * v_at[1] + h * v_at[2] + n * v_at[3]
                        o = o_at[0] + b * o_at[1] + h * o_at[2] + n * o_at[3]
                        if real:
                            i, count = h - h_first, n_next - n
                            at = i * RUN + n - first
                            absorb(
                                values, v, v_at[3], w, i, dim, out, o, o_at[3], how, keeps, weights, norms, at, count,
                                ahead,
                            )  # fmt: skip
                        elif how != HIDDEN:
                            for t in range(n_next - n):
                                out[o + t * o_at[3] : o + t * o_at[3] + dim] = 0.0
                    n = n_next
            if after != NONE:
                for h in range(h_first, h_stop):
                    i = h - h_first
                    m_all[after, b, h], u_all[after, b, h], w_all[after, b, h] = m[i], u[i], w[i]
                    top_all[after, b, h] = top[i]
    if how == STREAMED:
        settle()


@inline
def _join(states, i):
    """states[i] by the paper's operator into states[i + 1], which is the triple of what follows."""
    m, u, w, top = states
    for b in range(m.shape[1]):
        for h in range(m.shape[2]):
            largest = m[i + 1, b, h]
            if not largest > m[i, b, h]:
                largest = m[i, b, h]
                top[i + 1, b, h] = top[i, b, h]
            keep, weight = 1.0, 1.0
            if largest != -math.inf:
                keep, weight = math.exp(m[i, b, h] - largest), math.exp(m[i + 1, b, h] - largest)
            m[i + 1, b, h] = largest
            u[i + 1, b, h] = u[i, b, h] * keep + u[i + 1, b, h] * weight
            for d in range(w.shape[3]):
                w[i + 1, b, h, d] = w[i, b, h, d] * keep + w[i + 1, b, h, d] * weight


@part
def stack(array, count):
    """Room [count, ...] for so many states, the first of them given; for one it is the given one itself."""
    if count == 1:
        return array.reshape((1, *array.shape))
    room = np.empty((count, *array.shape), array.dtype)
    room[0] = array
    return room


@compiled
def forward(team, threads, inputs, state, results, together, rounds):
    """A call in `rounds` [rounds, parts, 7]; the parts of one are shared among the threads of the `team`.

    state: m, u [B, H], w [B, H, D] and top [B, H] before the first token, which become those after the last.

    With one round, parts are whole rows, with states[0] before and after them. With two, where rows are few, they are
    segments of the tokens, number i from states[i] to [i + 1]. The first round makes the outputs of segment 0 and the
    mere sums of the next ones, which are then joined to what those before them left; the second all other outputs.
    """
    m, u, w, top = state
    count = 1 if rounds.shape[0] == 1 else rounds.shape[1] + 2
    states = (stack(m, count), stack(u, count), stack(w, count), stack(top, count))
    for number in range(rounds.shape[0]):
        parts = rounds[number]
        if number == 1:
            for i in range(1, parts.shape[0]):
                _join(states, i)
        share(team, threads, parts.shape[0], _scan, (*inputs, states, *results, together, parts))
    if count > 1:
        m[:], u[:], w[:], top[:] = states[0][-1], states[1][-1], states[2][-1], states[3][-1]
