"""The fused GPU kernels of prefix attention, backward: the closed form of `kernels`, from the last token to the first.

With the gates p_k that `triton_forward.forward` kept, and a_k = 1 - p_k,

    G_k = do_k + a_{k+1} G_{k+1}        dv_k = p_k G_k
    H_k = do_k . o_k + a_{k+1} H_{k+1}  ds_k = p_k (G_k . v_k - H_k)

are gated sums like the outputs, and are scanned alike: chunk by chunk, the carry a_{k+1} G_{k+1} in float64 between
chunks. A program that holds only some columns of a row finds their share of ds.

Split over tokens, `summarise_backward` also keeps do_k . o_k, so that the outputs are read once.
"""

from __future__ import annotations

# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false
# (inside a kernel everything is a tensor of Triton's, of which the type checker knows nothing)
import triton.language as tl

from aaren.ops.triton_forward import chain, kernel


@kernel
def multiply(left, right):
    return left * right


@kernel
def last(x, c, C: tl.constexpr):
    """The last entry of x [C]."""
    return tl.sum(tl.where(c == C - 1, x, 0.0), 0)


@kernel
def last_row(x, c, C: tl.constexpr):
    """The last row of x [C, BD]."""
    return tl.sum(tl.where((c == C - 1)[:, None], x, 0.0), 0)


@kernel
def load_gates(gates, valid, n, start, right, ACC: tl.constexpr, MASKED: tl.constexpr):
    """Of the tokens n in start..right-1: which are, which are real, their gates, and the a of their right neighbour."""
    inside = n >= start
    real = inside
    if MASKED:
        real = inside & (tl.load(valid + n, mask=inside, other=0) != 0)
    p = tl.load(gates + n, mask=inside, other=0.0).to(ACC)
    through = 1.0 - tl.load(gates + n + 1, mask=(n + 1 >= start) & (n + 1 < right), other=0.0).to(ACC)
    return inside, real, p, through


@kernel
def pass_left(g, h, p, added_g, added_h, c, C: tl.constexpr):
    """What leaves a chunk on its left, in float64: its own part, scanned, and what came in from its right."""
    a = 1.0 - p.to(tl.float64)
    every = tl.reduce(a, 0, multiply)
    leftmost = last(a, c, C)
    g = every * g + leftmost * last_row(added_g, c, C).to(tl.float64)
    h = every * h + leftmost * last(added_h, c, C).to(tl.float64)
    return g, h, every


@kernel
def load_from_right(g, h, part_g, part_h, part_a, row, block, blocks, segment, count, d, D, J: tl.constexpr):
    """What comes in on the right of a segment: from the right of all, through the segments count-1..segment+1."""
    j = tl.arange(0, J)
    for skipped in range(0, count - 1 - segment, J):
        i = count - 1 - skipped - j
        here = i > segment
        at = row.to(tl.int64) * count + i
        a_i = tl.load(part_a + at, mask=here, other=1.0)
        h_i = tl.load(part_h + at * blocks + block, mask=here, other=0.0)
        g_i = tl.load(part_g + at[:, None] * D + d[None, :], mask=here[:, None] & (d < D)[None, :], other=0.0)
        wide = tl.broadcast_to(a_i[:, None], g_i.shape)
        kept, added = tl.associative_scan((wide, g_i), 0, chain)
        kept_h, added_h = tl.associative_scan((a_i, h_i), 0, chain)
        g = last_row(kept, j, J) * g + last_row(added, j, J)
        h = last(kept_h, j, J) * h + last(added_h, j, J)
    return g, h


@kernel
def summarise_backward(
    valid, out, gates, d_out, part_g, part_h, part_a, do_dot_o,
    heads, tokens, D, length, blocks, rows, count,
    o_b, o_h, o_n, g_b, g_h, g_n,
    C: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr, MASKED: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """(G, H, a) of every segment: G and H at its left end with nothing on its right, and the product of its a_k.

    And do_k . o_k [blocks, rows, tokens], the share of each block of columns.
    """
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks % rows
    segment = tl.program_id(0) // blocks // rows
    b = (row // heads).to(tl.int64)
    h = (row % heads).to(tl.int64)
    d = block * BD + tl.arange(0, BD)
    c = tl.arange(0, C)
    out += b * o_b + h * o_h
    d_out += b * g_b + h * g_h
    valid += b * tokens
    gates += row.to(tl.int64) * tokens
    do_dot_o += (block.to(tl.int64) * rows + row) * tokens
    big_g = d.to(tl.float64) * 0.0
    big_h = tl.full((), 0.0, tl.float64)
    product = tl.full((), 1.0, tl.float64)
    start = segment * length
    stop = tl.minimum(start + length, tokens)
    for done in tl.range(0, stop - start, C, num_stages=STAGES):
        right = stop - done
        n = right - 1 - c
        inside, real, p, through = load_gates(gates, valid, n, start, right, ACC, MASKED)
        here = real[:, None] & (d < D)[None, :]
        corner = tl.cast(right - 1, tl.int64)
        do = tl.load(d_out + corner * g_n - c[:, None] * g_n + d[None, :], mask=here, other=0.0).to(ACC)
        o = tl.load(out + corner * o_n - c[:, None] * o_n + d[None, :], mask=here, other=0.0).to(ACC)
        dot = tl.sum(do * o, 1)
        tl.store(do_dot_o + n, dot, mask=inside)
        wide = tl.broadcast_to(through[:, None], (C, BD))
        _, added = tl.associative_scan((wide, do), 0, chain)
        _, added_h = tl.associative_scan((through, dot), 0, chain)
        big_g, big_h, every = pass_left(big_g, big_h, p, added, added_h, c, C)
        product *= every
    at = row.to(tl.int64) * count + segment
    tl.store(part_g + at * D + d, big_g, mask=d < D)
    tl.store(part_h + at * blocks + block, big_h)
    if block == 0:
        tl.store(part_a + at, product)


@kernel
def backward(
    values, valid, out, gates, d_out, right_g, right_h, part_g, part_h, part_a, do_dot_o,
    d_values, d_scores, left_g, left_h,
    heads, tokens, D, length, blocks, rows, count,
    v_b, v_h, v_n, o_b, o_h, o_n, g_b, g_h, g_n, dv_b, dv_h, dv_n,
    C: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr, MASKED: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dv, the share of each block of columns in ds [blocks, rows, tokens], and what is left at the first token."""
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks % rows
    segment = tl.program_id(0) // blocks // rows  # from the first: `summarise_backward` read it last of all
    b = (row // heads).to(tl.int64)
    h = (row % heads).to(tl.int64)
    d = block * BD + tl.arange(0, BD)
    c = tl.arange(0, C)
    values += b * v_b + h * v_h
    d_out += b * g_b + h * g_h
    d_values += b * dv_b + h * dv_h
    valid += b * tokens
    gates += row.to(tl.int64) * tokens
    d_scores += (block.to(tl.int64) * rows + row) * tokens
    big_g = tl.load(right_g + row.to(tl.int64) * D + d, mask=d < D, other=0.0)
    big_h = tl.load(right_h + row) * (block == 0).to(tl.float64)
    if part_g is not None:
        do_dot_o += (block.to(tl.int64) * rows + row) * tokens
        big_g, big_h = load_from_right(
            big_g, big_h, part_g, part_h, part_a, row, block, blocks, segment, count, d, D, 16
        )
    else:
        out += b * o_b + h * o_h
    start = segment * length
    stop = tl.minimum(start + length, tokens)
    for done in tl.range(0, stop - start, C, num_stages=STAGES):
        right = stop - done
        n = right - 1 - c
        inside, real, p, through = load_gates(gates, valid, n, start, right, ACC, MASKED)
        here = real[:, None] & (d < D)[None, :]
        corner = tl.cast(right - 1, tl.int64)
        do = tl.load(d_out + corner * g_n - c[:, None] * g_n + d[None, :], mask=here, other=0.0).to(ACC)
        v = tl.load(values + corner * v_n - c[:, None] * v_n + d[None, :], mask=here, other=0.0).to(ACC)
        if part_g is not None:
            dot = tl.load(do_dot_o + n, mask=inside, other=0.0)
        else:
            o = tl.load(out + corner * o_n - c[:, None] * o_n + d[None, :], mask=here, other=0.0).to(ACC)
            dot = tl.sum(do * o, 1)
        wide = tl.broadcast_to(through[:, None], (C, BD))
        kept, added = tl.associative_scan((wide, do), 0, chain)
        kept_h, added_h = tl.associative_scan((through, dot), 0, chain)
        g = kept * big_g.to(ACC)[None, :] + added
        dv = (p[:, None] * g).to(d_values.dtype.element_ty)
        at = d_values + corner * dv_n - c[:, None] * dv_n + d[None, :]
        tl.store(at, dv, mask=inside[:, None] & (d < D)[None, :])
        ds = p * (tl.sum(g * v, 1) - (kept_h * big_h.to(ACC) + added_h))
        tl.store(d_scores + n, tl.where(real, ds, 0.0), mask=inside)
        big_g, big_h, _ = pass_left(big_g, big_h, p, added, added_h, c, C)
    if segment == 0:
        tl.store(left_g + row.to(tl.int64) * D + d, big_g, mask=d < D)
        tl.store(left_h + row * blocks + block, big_h)
