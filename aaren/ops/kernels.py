"""The fused forward kernel of the CPU, one pass over the tokens of each (batch, head) row, and how kernels compile.

The recurrence is that of the triple (m, u, w), its sums float64. First the factors of a run of tokens are made from
the scores (`_weigh`), then their values pass by the sums (`vectors.absorb`).

Tensors with a token axis come flat, with an (offset, batch, head, token) stride tuple, so that no layout needs a
copy; their last axis is contiguous. `rows` = (first, stop) counts batch * heads, `tokens` = (first, stop).
`together` heads are advanced token by token (all of them where heads lie inside tokens in memory, else 1).
Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
import inspect
import math

import numba
import numpy as np

from aaren.ops.atomics import claim, publish, seen, settle
from aaren.ops.vectors import HIDDEN, STREAMED, absorb, exp_below

LINE = 64  # bytes of a cache line
_RUN = 64  # most tokens whose factors are made before their values are read
_TURN = 8  # most tokens of a head's turn where heads lie inside tokens

# numba keeps machine code until this file changes; what else goes into it has its digest here, held by a test.
MADE_WITH = {"vectors": "5422396f3332542c", "atomics": "7463439973639b5e"}

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


@inline
def _weigh(scores, s, s_stride, valid, masked, b, h, first, m, u, top, keeps, weights, norms):
    """Pass scores, one for each of `keeps`, by m and u of row (b, h): the factors `advance` gives, and 1 / u.

    An invalid token is one with score -inf: it keeps the sums as they are.
    """
    count = keeps.shape[0]
    largest = m[b, h]
    for t in range(count):
        score = np.float64(scores[s + t * s_stride])
        if masked and not valid[b, first + t]:
            score = -math.inf
        keeps[t] = 1.0
        if score > largest:
            keeps[t] = math.exp(largest - score)
            largest = score
            top[b, h] = first + t
        weights[t] = score if score == -math.inf else score - largest  # of +inf: nan
    for t in range(count):
        weights[t] = exp_below(weights[t])
    total = u[b, h]
    for t in range(count):
        total = total * keeps[t] + weights[t]
        norms[t] = total
    for t in range(count):
        norms[t] = 1.0 / norms[t] if norms[t] != 0.0 else 0.0
    m[b, h], u[b, h] = largest, total


@part
def scan(
    scores, s_at, values, v_at, valid, masked, m, u, w, top, out, o_at, how, gates, gated, rows, tokens, together
):  # fmt: skip
    """Outputs, gates (when `gated`) and, in place, the state m, u [B, H], w [B, H, D] and the token `top` of m.

    how: `HIDDEN` (the state alone, for the tokens after these), `KEPT` or `STREAMED`, see `vectors.absorb`.
    """
    heads, dim = w.shape[1], w.shape[2]
    ahead = 0 if together == 1 else _TURN
    keeps, weights, norms = np.empty(together * _RUN), np.empty(together * _RUN), np.empty(together * _RUN)
    for b in range(rows[0] // heads, (rows[1] + heads - 1) // heads):
        h_end = min(heads, rows[1] - b * heads)
        for h_first in range(max(0, rows[0] - b * heads), h_end, together):
            h_stop = min(h_first + together, h_end)
            for first in range(tokens[0], tokens[1], _RUN):
                stop = min(first + _RUN, tokens[1])
                for h in range(h_first, h_stop):
                    at = (h - h_first) * _RUN
                    mine = slice(at, at + stop - first)
                    keep, weight, norm = keeps[mine], weights[mine], norms[mine]
                    s = s_at[0] + b * s_at[1] + h * s_at[2] + first * s_at[3]
                    _weigh(scores, s, s_at[3], valid, masked, b, h, first, m, u, top, keep, weight, norm)
                    if gated:
                        for t in range(stop - first):
                            gates[b, h, first + t] = weights[at + t] * norms[at + t]
                n = first
                while n < stop:
                    # Heads that lie inside tokens take short turns, for the next of which memory is asked ahead:
                    # processors do so by themselves only where memory is walked in its order.
                    real, n_stop = not masked or valid[b, n], stop if together == 1 else min(stop, n + _TURN)
                    n_next = n + 1 if masked else n_stop
                    while n_next < n_stop and real == valid[b, n_next]:
                        n_next += 1
                    for h in range(h_first, h_stop):
                        v = v_at[0] + b * v_at[1] + h * v_at[2] + n * v_at[3]
                        o = o_at[0] + b * o_at[1] + h * o_at[2] + n * o_at[3]
                        if real:
                            at = (h - h_first) * _RUN + n - first
                            row, count = b * heads + h, n_next - n
                            absorb(
                                values, v, v_at[3], w, row, dim, out, o, o_at[3], how, keeps, weights, norms, at, count,
                                ahead,
                            )  # fmt: skip
                        elif how != HIDDEN:
                            for t in range(n_next - n):
                                out[o + t * o_at[3] : o + t * o_at[3] + dim] = 0.0
                    n = n_next
    if how == STREAMED:
        settle()


@inline
def _join(m, u, w, top, m_right, u_right, w_right, top_right, b, h):
    """The triple of row (b, h) and then that of `right`, by the paper's operator, in place of `right`."""
    largest = m_right[b, h]
    if not largest > m[b, h]:
        largest = m[b, h]
        top_right[b, h] = top[b, h]
    keep, weight = 1.0, 1.0
    if largest != -math.inf:
        keep, weight = math.exp(m[b, h] - largest), math.exp(m_right[b, h] - largest)
    m_right[b, h] = largest
    u_right[b, h] = u[b, h] * keep + u_right[b, h] * weight
    for d in range(w.shape[2]):
        w_right[b, h, d] = w[b, h, d] * keep + w_right[b, h, d] * weight


@compiled
def forward(claims, parts, size, inputs, states, results, length, together):
    """One thread's share of a call: `scan` over what no other thread has claimed.

    With `parts`, whole rows: those of one (first, stop) after another, from and to the state states[...][0].

    Without, where rows are few, segments of `size` tokens. A segment is summed up while it comes from memory; its
    outputs are made as soon as the state before it is known, states[...][segment], with the values still in the cache.
    The state after it goes to whoever waits for it first of all. Segments are claimed in their order, so that a thread
    waits only for one that is at work.

    claims: counters, 0 of what is claimed, `LINE` // 8 (a cache line of its own) of the states that are known.
    """
    m, u, w, top = states
    out, o_at, _, gates, _ = results
    task = claim(claims, 0)
    if parts.shape[0] > 0:
        while task < parts.shape[0]:
            rows = (parts[task, 0], parts[task, 1])
            scan(*inputs, m[0], u[0], w[0], top[0], *results, rows, (0, length), together)
            task = claim(claims, 0)
        return
    known = LINE // 8
    rows = (0, m.shape[1] * m.shape[2])
    m_own, u_own, w_own, top_own = np.empty_like(m[0]), np.empty_like(u[0]), np.empty_like(w[0]), np.empty_like(top[0])
    own = (m_own, u_own, w_own, top_own)
    while task < m.shape[0] - 1:
        tokens = (task * size, min((task + 1) * size, length))
        m_own[:], u_own[:], w_own[:], top_own[:] = -math.inf, 0.0, 0.0, -1
        scan(*inputs, *own, out, o_at, HIDDEN, gates, False, rows, tokens, together)
        while seen(claims, known) < task:
            pass
        for b in range(m.shape[1]):
            for h in range(m.shape[2]):
                _join(m[task], u[task], w[task], top[task], m_own, u_own, w_own, top_own, b, h)
        m[task + 1], u[task + 1], w[task + 1], top[task + 1] = m_own, u_own, w_own, top_own
        publish(claims, known, task + 1)
        m_own[:], u_own[:], w_own[:], top_own[:] = m[task], u[task], w[task], top[task]
        scan(*inputs, *own, *results, rows, tokens, together)
        task = claim(claims, 0)
