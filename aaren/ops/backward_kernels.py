"""The fused backward kernels of the CPU: the closed form, a recurrence from the last token to the first.

With p_k = e^{s_k} / sum_{i<=k} e^{s_i} (the gate) the outputs obey o_k = (1 - p_k) o_{k-1} + p_k v_k, so

    G_k = do_k + (1 - p_{k+1}) G_{k+1}        dv_k = p_k G_k
    H_k = do_k . o_k + (1 - p_{k+1}) H_{k+1}  ds_k = p_k (G_k . v_k - H_k)

need the values, the outputs and the gates alone. No quantity exceeds the scale of its inputs. Tensors, and the parts of
a call, come as in `kernels`; the sums are G, H and the product of the factors (1 - p) passed. Importing this module
imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
import numpy as np

from aaren.ops.kernels import AHEAD, NONE, RUN, TURN, compiled, part, stack
from aaren.ops.passes import unwind
from aaren.ops.team import settle, share
from aaren.ops.vectors import HIDDEN, STREAMED

# numba keeps machine code until this file changes; what else goes into it has its digest here, held by a test.
MADE_WITH = {
    "kernels": "aa8926f7eebbf848",
    "passes": "946ddbe08433f734",
    "team": "b66cf0b0cda0ed42",
    "vectors": "28474dc2c2da7c74",
}


@part
def _sweep(
    values, v_at, valid, masked, out, o_at, gates, d_out, g_at, carries, d_scores, d_values, dv_at, together, parts,
    task,
):  # fmt: skip
    """One part of a call: gradients of scores [B, H, N] and values (unless `HIDDEN`), and the sums that leave it.

    What comes in is the part of G_k and H_k owed to the tokens after k (for the last token: to the final state). The
    sums at work are arrays of their own: two threads with sums in one cache line took longer than one alone.
    """
    row, row_stop, token, token_stop, before, after, how = parts[task]
    g_all, h_all, passing_all = carries
    heads, dim = g_all.shape[2], g_all.shape[3]
    ahead = AHEAD if together == 1 else TURN
    sums_g, sums_h, passing = np.empty((together, dim)), np.empty(together), np.empty(together)
    run_gates, dots = np.empty(together * RUN), np.empty(2 * together * RUN)
    for b in range((row_stop + heads - 1) // heads - 1, row // heads - 1, -1):
        h_end = min(heads, row_stop - b * heads)
        for h_first in range(max(0, row - b * heads), h_end, together):
            h_stop = min(h_first + together, h_end)
            for h in range(h_first, h_stop):
                i = h - h_first
                passing[i] = 1.0
                if before == NONE:
                    sums_g[i], sums_h[i] = 0.0, 0.0
                else:
                    sums_g[i], sums_h[i] = g_all[before, b, h], h_all[before, b, h]
            for stop in range(token_stop, token, -RUN):
                first = max(stop - RUN, token)
                for h in range(h_first, h_stop):
                    at = (h - h_first) * RUN
                    for t in range(stop - first):
                        run_gates[at + t] = gates[b, h, first + t]
                        dots[2 * (at + t)], dots[2 * (at + t) + 1] = 0.0, 0.0
                n = stop
                while n > first:
                    real, n_first = not masked or valid[b, n - 1], first if together == 1 else max(first, n - TURN)
                    n_next = n - 1 if masked else n_first
                    while n_next > n_first and real == valid[b, n_next - 1]:
                        n_next -= 1
                    for h in range(h_first, h_stop):
                        v = v_at[0] + b * v_at[1] + h * v_at[2] + n_next * v_at[3]
                        o = o_at[0] + b * o_at[1] + h * o_at[2] + n_next * o_at[3]
                        g = g_at[0] + b * g_at[1] + h * g_at[2] + n_next * g_at[3]
                        dv = dv_at[0] + b * dv_at[1] + h * dv_at[2] + n_next * dv_at[3]
                        if real:
                            i, count = h - h_first, n - n_next
                            at = i * RUN + n_next - first
                            unwind(
                                values, v, v_at[3], out, o, o_at[3], d_out, g, g_at[3], d_values, dv, dv_at[3],
                                sums_g, i, dim, how, run_gates, at, dots, count, ahead,
                            )  # fmt: skip
                        elif how != HIDDEN:
                            for t in range(n - n_next):
                                d_values[dv + t * dv_at[3] : dv + t * dv_at[3] + dim] = 0.0
                    n = n_next
                for h in range(h_first, h_stop):
                    i = h - h_first
                    below, passed = sums_h[i], passing[i]
                    for n in range(stop - 1, first - 1, -1):
                        if masked and not valid[b, n]:
                            if how != HIDDEN:
                                d_scores[b, h, n] = 0.0
                            continue
                        at = i * RUN + n - first
                        gate = run_gates[at]
                        below += dots[2 * at + 1]
                        if how != HIDDEN:
                            d_scores[b, h, n] = gate * (dots[2 * at] - below)
                        below *= 1.0 - gate
                        passed *= 1.0 - gate
                    sums_h[i], passing[i] = below, passed
            if after != NONE:
                for h in range(h_first, h_stop):
                    i = h - h_first
                    g_all[after, b, h], h_all[after, b, h], passing_all[after, b, h] = sums_g[i], sums_h[i], passing[i]
    if how == STREAMED:
        settle()


@compiled
def backward(team, threads, inputs, carry, results, together, rounds):
    """A call in `rounds` [rounds, parts, 7] as in `kernels.forward`, its segments numbered from the right.

    carry: G [B, H, D] and H [B, H] as they come in from the right of the last token, which become those that leave on
    the left of the first.
    """
    g, h = carry
    count = 1 if rounds.shape[0] == 1 else rounds.shape[1] + 2
    big_g, big_h, passing = stack(g, count), stack(h, count), np.ones((count, *h.shape))
    for number in range(rounds.shape[0]):
        parts = rounds[number]
        if number == 1:
            for i in range(1, parts.shape[0]):
                big_h[i + 1] += passing[i + 1] * big_h[i]
                for b in range(h.shape[0]):
                    for head in range(h.shape[1]):
                        big_g[i + 1, b, head] += passing[i + 1, b, head] * big_g[i, b, head]
        shared = (*inputs, (big_g, big_h, passing), *results, together, parts)
        share(team, threads, parts.shape[0], _sweep, shared)
    if count > 1:
        g[:], h[:] = big_g[-1], big_h[-1]
