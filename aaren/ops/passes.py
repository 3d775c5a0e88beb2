"""The inner loops of the CPU kernels as vector code, where the compiler's took two to three times as long.

A row of sums is cut into pieces that fit the registers; each piece stays there while a run of tokens passes, so that
a value costs a load, a conversion, two multiplications and a store. Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false, reportArgumentType=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from aaren.ops.vectors import F64, HIDDEN, I64, KEPT, STREAMED, Rows, double, modes, multiply_add, splat, total_of


@intrinsic
def absorb(
    typing_context, values, v, v_stride, w, w_row, dim, out, o, o_stride, how, keeps, weights, norms, at, count, ahead
):
    """`count` tokens pass by the sums w [rows, dim] of one row: w <- w keep + v weight, outputs w norm.

    Token t's values begin at values[v + t v_stride], its outputs at out[o + t o_stride], its factors are the float64
    keeps, weights, norms[at + t] (flat arrays). how: HIDDEN (no outputs, and weights alone are used), KEPT or STREAMED;
    streamed rows are whole cache lines. Memory is asked for the row `ahead` of the one at work.
    """

    def generate(context, builder, signature, arguments):
        b, kinds = builder, signature.args
        _, v, v_stride, _, w_row, dim, _, o, o_stride, how, _, _, _, at, count, ahead = arguments
        read_from = Rows.of(context, b, kinds[0], arguments[0], v, v_stride)
        write_to = Rows.of(context, b, kinds[6], arguments[6], o, o_stride)
        sums = Rows.of(context, b, kinds[3], arguments[3], I64(0), dim)
        factors = [Rows.of(context, b, kinds[i], arguments[i], at, I64(1)) for i in (10, 11, 12)]

        def pass_by(column, registers, lanes, mode):
            columns = [b.add(column, I64(i * lanes)) for i in range(registers)]
            held = [cgutils.alloca_once_value(b, sums.read(w_row, c, lanes)) for c in columns]
            with cgutils.for_range(b, count, intp=I64) as loop:
                t = loop.index
                if lanes > 1:
                    read_from.fetch(b.add(t, ahead), column, registers * lanes)
                    if mode == KEPT:
                        write_to.fetch(b.add(t, ahead), column, registers * lanes, to_write=True)
                keep, weight, norm = (splat(b, f.read(t, I64(0), 1), lanes) for f in factors)
                for place, c in zip(held, columns, strict=True):
                    old = b.load(place)
                    if mode == HIDDEN:
                        total = multiply_add(b, read_from.read(t, c, lanes), weight, old)
                    else:
                        total = multiply_add(b, old, keep, b.fmul(read_from.read(t, c, lanes), weight))
                    b.store(total, place)
                    if mode != HIDDEN:
                        write_to.write(t, c, b.fmul(total, norm), lanes, streamed=mode == STREAMED)
            for place, c in zip(held, columns, strict=True):
                sums.write(w_row, c, b.load(place), lanes)

        modes(b, dim, how, pass_by)
        return context.get_dummy_value()

    place = types.intp
    given = (values, place, place, w, place, place, out, place, place, place, keeps, weights, norms, *[place] * 3)
    return types.void(*given), generate


@intrinsic
def unwind(
    typing_context, values, v, v_stride, out, o, o_stride, d_out, g, g_stride, d_values, dv, dv_stride, w, w_row, dim,
    how, gates, at, dots, count, ahead,
):  # fmt: skip
    """`count` tokens, the last one first, pass by the sums G = w[w_row] of their row: with do a token's `d_out`,

        T = G + do    dv <- gate T    G <- (1 - gate) T    dots[2 (at + t)] += T . v    dots[2 (at + t) + 1] += do . o

    where gate = gates[at + t]; `HIDDEN` leaves out dv and T . v. Tensors and `how` are as in `absorb`, and so is
    `ahead`, of a walk that goes back, for what is read.
    """

    def generate(context, builder, signature, arguments):
        b, kinds = builder, signature.args
        rows = [Rows.of(context, b, kinds[i], *arguments[i : i + 3]) for i in (0, 3, 6, 9)]
        read_from, outputs, gradients, write_to = rows
        w_row, dim, how, _, at, _, count, ahead = arguments[13:]
        sums = Rows.of(context, b, kinds[12], arguments[12], I64(0), dim)
        factors = Rows.of(context, b, kinds[16], arguments[16], at, I64(1))
        places = b.mul(at, I64(2))
        dots = Rows.of(context, b, kinds[18], arguments[18], places, I64(2))

        def pass_by(column, registers, lanes, mode):
            columns = [b.add(column, I64(i * lanes)) for i in range(registers)]
            held = [cgutils.alloca_once_value(b, sums.read(w_row, c, lanes)) for c in columns]
            with cgutils.for_range(b, count, intp=I64) as loop:
                t = b.sub(b.sub(count, I64(1)), loop.index)
                if lanes > 1:
                    for row in rows[:3] if mode != HIDDEN else rows[1:3]:
                        row.fetch(b.sub(t, ahead), column, registers * lanes)
                gate = factors.read(t, I64(0), 1)
                keep, gate = splat(b, b.fsub(F64(1.0), gate), lanes), splat(b, gate, lanes)
                with_values = with_outputs = ir.Constant(double(lanes), None if lanes > 1 else 0.0)
                for place, c in zip(held, columns, strict=True):
                    gradient = gradients.read(t, c, lanes)
                    total = b.fadd(b.load(place), gradient)
                    with_outputs = multiply_add(b, gradient, outputs.read(t, c, lanes), with_outputs)
                    if mode != HIDDEN:
                        with_values = multiply_add(b, total, read_from.read(t, c, lanes), with_values)
                        write_to.write(t, c, b.fmul(total, gate), lanes, streamed=mode == STREAMED)
                    b.store(b.fmul(total, keep), place)
                for i, dot in enumerate((with_values, with_outputs)):
                    if i or mode != HIDDEN:
                        place = dots.at(t, I64(i), 1)
                        b.store(b.fadd(b.load(place), total_of(b, dot, lanes)), place)
            for place, c in zip(held, columns, strict=True):
                sums.write(w_row, c, b.load(place), lanes)

        modes(b, dim, how, pass_by)
        return context.get_dummy_value()

    place = types.intp
    rows = (values, place, place, out, place, place, d_out, place, place, d_values, place, place)
    return types.void(*rows, w, place, place, place, gates, place, dots, place, place), generate
