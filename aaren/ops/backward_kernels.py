"""The fused backward kernels of the CPU: the closed form, a recurrence from the last token to the first.

With p_k = e^{s_k} / sum_{i<=k} e^{s_i} (the gate) the outputs obey o_k = (1 - p_k) o_{k-1} + p_k v_k, so

    G_k = do_k + (1 - p_{k+1}) G_{k+1}        dv_k = p_k G_k
    H_k = do_k . o_k + (1 - p_{k+1}) H_{k+1}  ds_k = p_k (G_k . v_k - H_k)

need the values, the outputs and the gates alone. No quantity exceeds the scale of its inputs. Tensors come as in
`kernels`. Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false, reportArgumentType=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from aaren.ops.kernels import LINE, compiled

# numba keeps machine code until this file changes; what else goes into it has its digest here, held by a test.
MADE_WITH = {"kernels": "1f39cf13483103a7"}

# Rows of D values between the one at work and the one asked of memory. Processors fetch ahead of a rising walk by
# themselves, but not of this falling one made of rising rows: without it backward took three to six times as long.
_AHEAD = 8


@intrinsic
def _prefetch(typing_context, array, index):
    """Ask for the cache line of array[index], which need not exist, without waiting for it."""

    def generate(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        at = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fetch, [at, number(0), number(3), number(1)])  # for reading, into every cache, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@compiled
def backward(
    values, v_at, valid, masked, out, o_at, gates, d_out, g_at, big_g, big_h, d_scores, d_values, dv_at,
    rows, tokens, together,
):  # fmt: skip
    """Gradients of scores [B, H, N] and values; G [B, H, D] and H [B, H] come in from the right, go out to the left.

    What comes in is the part of G_k and H_k owed to the tokens after k (for the last token: to the final state).
    """
    heads, dim = big_g.shape[1], big_g.shape[2]
    ahead = max(1, _AHEAD // together)
    line = LINE // out.itemsize
    for b in range((rows[1] + heads - 1) // heads - 1, rows[0] // heads - 1, -1):
        h_stop = min(heads, rows[1] - b * heads)
        h_low = max(0, rows[0] - b * heads)
        for group in range((h_stop - h_low - 1) // together, -1, -1):
            h_first = h_low + group * together
            for n in range(tokens[1] - 1, tokens[0] - 1, -1):
                real = not masked or valid[b, n]
                for h in range(h_first, min(h_first + together, h_stop)):
                    dv = dv_at[0] + b * dv_at[1] + h * dv_at[2] + n * dv_at[3]
                    dv_row = d_values[dv : dv + dim]
                    if not real:
                        dv_row[:] = 0.0
                        d_scores[b, h, n] = 0.0
                        continue
                    v = v_at[0] + b * v_at[1] + h * v_at[2] + n * v_at[3]
                    o = o_at[0] + b * o_at[1] + h * o_at[2] + n * o_at[3]
                    g = g_at[0] + b * g_at[1] + h * g_at[2] + n * g_at[3]
                    for d in range(0, dim, line):
                        _prefetch(values, v - ahead * v_at[3] + d)
                        _prefetch(out, o - ahead * o_at[3] + d)
                        _prefetch(d_out, g - ahead * g_at[3] + d)
                        _prefetch(d_values, dv - ahead * dv_at[3] + d)
                    v_row, out_row, do_row = values[v : v + dim], out[o : o + dim], d_out[g : g + dim]
                    g_row = big_g[b, h]
                    gate = np.float64(gates[b, h, n])
                    before = 1.0 - gate
                    g_dot_v = 0.0
                    do_dot_o = 0.0
                    for d in range(dim):
                        do = np.float64(do_row[d])
                        total = g_row[d] + do
                        g_dot_v += total * v_row[d]
                        do_dot_o += do * out_row[d]
                        dv_row[d] = total * gate
                        g_row[d] = total * before
                    total_h = big_h[b, h] + do_dot_o
                    d_scores[b, h, n] = gate * (g_dot_v - total_h)
                    big_h[b, h] = total_h * before


@compiled
def summarise_backward(valid, masked, out, o_at, gates, d_out, g_at, big_g, big_h, passing, rows, tokens, together):
    """What a run of tokens adds to G and H on its left, and `passing`, its factor on what comes from its right."""
    heads, dim = big_g.shape[1], big_g.shape[2]
    ahead = max(1, _AHEAD // together)
    line = LINE // out.itemsize
    for b in range((rows[1] + heads - 1) // heads - 1, rows[0] // heads - 1, -1):
        h_stop = min(heads, rows[1] - b * heads)
        h_low = max(0, rows[0] - b * heads)
        for group in range((h_stop - h_low - 1) // together, -1, -1):
            h_first = h_low + group * together
            for n in range(tokens[1] - 1, tokens[0] - 1, -1):
                if masked and not valid[b, n]:
                    continue
                for h in range(h_first, min(h_first + together, h_stop)):
                    o = o_at[0] + b * o_at[1] + h * o_at[2] + n * o_at[3]
                    g = g_at[0] + b * g_at[1] + h * g_at[2] + n * g_at[3]
                    for d in range(0, dim, line):
                        _prefetch(out, o - ahead * o_at[3] + d)
                        _prefetch(d_out, g - ahead * g_at[3] + d)
                    out_row, do_row = out[o : o + dim], d_out[g : g + dim]
                    g_row = big_g[b, h]
                    before = 1.0 - np.float64(gates[b, h, n])
                    do_dot_o = 0.0
                    for d in range(dim):
                        do = np.float64(do_row[d])
                        do_dot_o += do * out_row[d]
                        g_row[d] = (g_row[d] + do) * before
                    big_h[b, h] = (big_h[b, h] + do_dot_o) * before
                    passing[b, h] *= before
