"""The fused GPU kernels of prefix attention, forward.

A program walks over the tokens of one (batch, head) row, or of one segment of it, in chunks of C tokens and BD
columns of the values. Inside a chunk, in the accumulation type (float32; float64 for float64 inputs), with
m_k and u_k the running maximum and sum of e^{s_i - m_k}, and p_k = e^{s_k - m_k} / u_k in [0, 1]:

    o_k = (1 - p_k) o_{k-1} + p_k v_k              one associative scan of the pairs (1 - p_k, p_k v_k)

Between chunks m, and in float64 u and o, are carried. The carry is made of sums over the whole chunk, not of the last
row of the scan, so that rounding does not pile up over millions of tokens. Nothing leaves the scale of its inputs.

Importing this module imports triton. Names in capitals are compile-time constants.
"""

from __future__ import annotations

# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false
# (inside a kernel everything is a tensor of Triton's, of which the type checker knows nothing)
import inspect

import triton
import triton.language as tl


def kernel(function):
    """`triton.jit`, of the function itself: a run-time type checker's wrapper is nothing Triton could compile."""
    return triton.jit(inspect.unwrap(function))


@kernel
def finite(m):
    """m with -inf replaced by 0: exp(-inf - m) is then 0, not NaN."""
    return tl.where(m == float("-inf"), 0.0, m)


@kernel
def join(m_left, u_left, m_right, u_right):
    """The paper's operator on (m, u)."""
    m = tl.maximum(m_left, m_right)
    reference = finite(m)
    return m, u_left * tl.exp(m_left - reference) + u_right * tl.exp(m_right - reference)


@kernel
def chain(a_left, x_left, a_right, x_right):
    """x_k = a_k x_{k-1} + b_k twice in a row: the operator that scans a gated sum."""
    return a_left * a_right, a_right * x_left + x_right


@kernel
def weigh(m, u, o, chunk_m, weights, values, reference):
    """(u, o) after a chunk or some segments: weights [C] of rows of values [C, BD], relative to `reference`."""
    old = u * tl.exp(m.to(tl.float64) - reference.to(tl.float64))
    u = old + tl.sum(weights, 0).to(tl.float64)
    share = 1.0 / tl.where(u == 0.0, 1.0, u)
    weights = weights * share.to(weights.dtype)
    return u, o * (old * share) + tl.sum(weights[:, None] * values, 0).to(tl.float64)


@kernel
def load_scores(scores, valid, n, inside, step, ACC: tl.constexpr, MASKED: tl.constexpr):
    """Scores of the tokens n, -inf where there is no real one, and which are real."""
    real = inside
    if MASKED:
        real = inside & (tl.load(valid + n, mask=inside, other=0) != 0)
    return tl.load(scores + n.to(tl.int64) * step, mask=real, other=float("-inf")).to(ACC), real


@kernel
def load_start(start_m, start_u, start_o, row, d, D, ACC: tl.constexpr):
    """(m, u, o) of the state before the first token; the empty one if there is none."""
    m = tl.full((), float("-inf"), ACC)
    u = tl.full((), 0.0, tl.float64)
    o = d.to(tl.float64) * 0.0
    if start_m is not None:
        m = tl.load(start_m + row).to(ACC)
        u = tl.load(start_u + row)
        o = tl.load(start_o + row.to(tl.int64) * D + d, mask=d < D, other=0.0)
    return m, u, o


@kernel
def load_before(m, u, o, top, part_m, part_u, part_o, part_top, row, segment, count, d, D, J: tl.constexpr):
    """The state before a segment: the first state and the summaries of the segments 0..segment-1, J at a time."""
    for first in range(0, segment, J):
        i = first + tl.arange(0, J)
        here = i < segment
        at = row.to(tl.int64) * count + i
        m_i = tl.load(part_m + at, mask=here, other=float("-inf"))
        u_i = tl.load(part_u + at, mask=here, other=0.0)
        o_i = tl.load(part_o + at[:, None] * D + d[None, :], mask=here[:, None] & (d < D)[None, :], other=0.0)
        largest = tl.max(m_i, 0)
        where = tl.min(tl.where((m_i == largest) & here, i, 2147483647), 0)
        top_i = tl.load(part_top + at, mask=here, other=0)
        top = tl.where(largest > m, tl.sum(tl.where(i == where, top_i, 0), 0), top)
        m_new = tl.maximum(m, largest)
        reference = finite(m_new)
        weights = u_i * tl.exp(m_i.to(tl.float64) - reference.to(tl.float64))
        u, o = weigh(m, u, o, m_new, weights, o_i, reference)
        m = m_new
    return m, u, o, top


@kernel
def summarise(
    scores, values, valid, part_m, part_u, part_o, part_top,
    heads, tokens, D, length, blocks, rows, count,
    s_b, s_h, s_n, v_b, v_h, v_n,
    C: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr, MASKED: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """(m, u, o, top) of the first `count` segments of each row, for the segments after them."""
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks % rows
    segment = tl.program_id(0) // blocks // rows
    b = (row // heads).to(tl.int64)
    h = (row % heads).to(tl.int64)
    d = block * BD + tl.arange(0, BD)
    c = tl.arange(0, C)
    scores += b * s_b + h * s_h
    values += b * v_b + h * v_h
    valid += b * tokens
    m, u, o = load_start(None, None, None, row, d, D, ACC)
    top = tl.full((), -1, tl.int32)
    stop = tl.minimum((segment + 1) * length, tokens)
    for first in tl.range(segment * length, stop, C, num_stages=STAGES):
        n = first + c
        s, real = load_scores(scores, valid, n, n < stop, s_n, ACC, MASKED)
        at = values + tl.cast(first, tl.int64) * v_n + c[:, None] * v_n + d[None, :]
        v = tl.load(at, mask=real[:, None] & (d < D)[None, :], other=0.0).to(ACC)
        largest = tl.max(s, 0)
        where = tl.min(tl.where(s == largest, n, 2147483647), 0)
        top = tl.where(largest > m, where, top)
        m_new = tl.maximum(m, largest)
        reference = finite(m_new)
        u, o = weigh(m, u, o, m_new, tl.exp(s - reference), v, reference)
        m = m_new
    at = row.to(tl.int64) * count + segment
    tl.store(part_o + at * D + d, o, mask=d < D)
    if block == 0:
        tl.store(part_m + at, m)
        tl.store(part_u + at, u)
        tl.store(part_top + at, top)


@kernel
def forward(
    scores, values, valid, start_m, start_u, start_o, part_m, part_u, part_o, part_top,
    out, gates, last_m, last_u, last_w, last_top,
    heads, tokens, D, length, blocks, rows, count,
    s_b, s_h, s_n, v_b, v_h, v_n, o_b, o_h, o_n,
    C: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr, MASKED: tl.constexpr, GATED: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Outputs, gates p_k [rows, tokens] where GATED, and the last state; one segment of `length` a program."""
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks % rows
    # From the last segment back: what `summarise` read last may still be in the cache.
    segment = count - tl.program_id(0) // blocks // rows
    b = (row // heads).to(tl.int64)
    h = (row % heads).to(tl.int64)
    d = block * BD + tl.arange(0, BD)
    c = tl.arange(0, C)
    scores += b * s_b + h * s_h
    values += b * v_b + h * v_h
    out += b * o_b + h * o_h
    valid += b * tokens
    gates += row.to(tl.int64) * tokens
    m, u, o = load_start(start_m, start_u, start_o, row, d, D, ACC)
    top = tl.full((), -1, tl.int32)
    if part_m is not None:
        m, u, o, top = load_before(m, u, o, top, part_m, part_u, part_o, part_top, row, segment, count, d, D, 16)
    stop = tl.minimum((segment + 1) * length, tokens)
    for first in tl.range(segment * length, stop, C, num_stages=STAGES):
        n = first + c
        s, real = load_scores(scores, valid, n, n < stop, s_n, ACC, MASKED)
        at = values + tl.cast(first, tl.int64) * v_n + c[:, None] * v_n + d[None, :]
        v = tl.load(at, mask=real[:, None] & (d < D)[None, :], other=0.0).to(ACC)

        # A score that is NaN or +inf makes its weight, and all that follows, NaN: exp(s - s).
        leaf = tl.where(s == float("-inf"), 0.0, tl.exp(finite(s) - finite(s)))
        m_k, u_k = tl.associative_scan((s, leaf), 0, join)
        m_k, u_k = join(m, u.to(ACC), m_k, u_k)
        p = tl.exp(s - finite(m_k)) / tl.where(u_k == 0.0, 1.0, u_k)
        decay = tl.broadcast_to((1.0 - p)[:, None], (C, BD))
        kept, added = tl.associative_scan((decay, p[:, None] * v), 0, chain)
        y = kept * o.to(ACC)[None, :] + added
        if MASKED:
            y = tl.where(real[:, None], y, 0.0)
        at = out + tl.cast(first, tl.int64) * o_n + c[:, None] * o_n + d[None, :]
        tl.store(at, y.to(out.dtype.element_ty), mask=(n < stop)[:, None] & (d < D)[None, :])
        if GATED:
            tl.store(gates + n, p, mask=(n < stop) & (block == 0))

        largest = tl.max(s, 0)
        if GATED:
            where = tl.min(tl.where(s == largest, n, 2147483647), 0)
            top = tl.where(largest > m, where, top)
        m_new = tl.maximum(m, largest)
        reference = finite(m_new)
        u, o = weigh(m, u, o, m_new, tl.exp(s - reference), v, reference)
        m = m_new
    if segment == count:
        tl.store(last_w + row.to(tl.int64) * D + d, o * u, mask=d < D)
        if block == 0:
            tl.store(last_m + row, m.to(tl.float64))
            tl.store(last_u + row, u)
            tl.store(last_top + row, top.to(tl.int64))
