"""The inner loops of the CPU kernels as vector code of our own, where the compiler's took two to three times as long.

A row of sums is cut into pieces that fit the registers; each piece stays there while a run of tokens passes, so that
a value costs a load, a conversion, two multiplications and a store. The vectors are eight doubles wide; a processor
with narrower ones takes two or four of its own for each. Every multiply-add is one instruction where the processor
has it, in pieces of any size, so that the same numbers give the same bits however a row or a run of tokens is cut.
Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false, reportArgumentType=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 8
PIECES = ((8, LANES), (2, LANES), (1, LANES), (1, 1))  # (registers, lanes): 64 columns, 16, 8, and what is left
_LINE = 64  # bytes of a cache line
HIDDEN, KEPT, STREAMED = 0, 1, 2  # what becomes of outputs: not written, written, written past the caches

_F64, _I64, _I32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
_SHIFT = 1.5 * 2.0**52  # added to a double below 2^51, it leaves the nearest integer in the low bits
_LN2 = (float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45"))  # the sum is ln 2; n * first: exact
_LOWEST = -708.0  # e^x is a normal number from here on; what is below counts for nothing beside the 1 of the maximum


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c for doubles or vectors of them."""
    name = "llvm.fmuladd." + (f"v{a.type.count}f64" if isinstance(a.type, ir.VectorType) else "f64")
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


@intrinsic
def exp_below(typing_context, x):
    """e^x for x <= 0 or NaN, without a branch or a call, so that a loop of it becomes vector code; 0 below -708."""

    def generate(context, builder, signature, arguments):
        (x,) = arguments
        shifted = _multiply_add(builder, x, _F64(1.0 / math.log(2.0)), _F64(_SHIFT))
        whole = builder.fsub(shifted, _F64(_SHIFT))
        rest = _multiply_add(builder, whole, _F64(-_LN2[0]), x)
        rest = _multiply_add(builder, whole, _F64(-_LN2[1]), rest)
        result = _F64(1.0 / math.factorial(13))
        for k in range(12, -1, -1):
            result = _multiply_add(builder, result, rest, _F64(1.0 / math.factorial(k)))
        # Add the integer to the exponent: its low bits are those of `shifted`, and what is above them is shifted out.
        power = builder.shl(builder.bitcast(shifted, _I64), _I64(52))
        result = builder.bitcast(builder.add(builder.bitcast(result, _I64), power), _F64)
        result = builder.select(builder.fcmp_ordered("<", x, _F64(_LOWEST)), _F64(0.0), result)
        return builder.select(builder.fcmp_unordered("uno", x, x), x, result)

    return types.float64(types.float64), generate


class _Rows(NamedTuple):
    """Rows of one flat array at a fixed stride: where row t begins, and how a piece of it is read and written."""

    builder: Any
    data: Any
    first: Any
    stride: Any

    @classmethod
    def of(cls, context: Any, builder: Any, kind: Any, array: Any, first: Any, stride: Any) -> _Rows:
        return cls(builder, context.make_array(kind)(context, builder, array).data, first, stride)

    def at(self, t: Any, column: Any, lanes: int) -> Any:
        """Pointer to `lanes` elements of row t from `column` on."""
        b = self.builder
        place = b.gep(self.data, [b.add(b.add(self.first, b.mul(t, self.stride)), column)])
        element = self.data.type.pointee
        return place if lanes == 1 else b.bitcast(place, ir.VectorType(element, lanes).as_pointer())

    def read(self, t: Any, column: Any, lanes: int) -> Any:
        """A piece as doubles."""
        value = self.builder.load(self.at(t, column, lanes), align=self._align())
        return value if self._wide() else self.builder.fpext(value, _double(lanes))

    def write(self, t: Any, column: Any, value: Any, lanes: int, *, streamed: bool = False) -> None:
        """Doubles into a piece, rounded to the array's type."""
        b, place = self.builder, self.at(t, column, lanes)
        value = value if self._wide() else b.fptrunc(value, _vector(self.data.type.pointee, lanes))
        store = b.store(value, place, align=lanes * self._align() if streamed else self._align())
        if streamed:
            store.set_metadata("nontemporal", b.module.add_metadata([_I32(1)]))

    def fetch(self, t: Any, column: Any, width: int, *, to_write: bool = False) -> None:
        """Ask for `width` elements of row t, which need not exist, without waiting for them."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        fetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        for first in range(0, width, _LINE // self._align()):
            place = self.builder.bitcast(self.at(t, self.builder.add(column, _I64(first)), 1), byte)
            self.builder.call(fetch, [place, _I32(int(to_write)), _I32(3), _I32(1)])  # into every cache, data

    def _wide(self) -> bool:
        return self.data.type.pointee == _F64

    def _align(self) -> int:
        return 8 if self._wide() else 4


def _vector(element: Any, lanes: int) -> Any:
    return element if lanes == 1 else ir.VectorType(element, lanes)


def _double(lanes: int) -> Any:
    return _vector(_F64, lanes)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    if lanes == 1:
        return value
    vector = builder.insert_element(ir.Constant(_double(lanes), ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _pieces(builder: Any, dim: Any, body: Callable[[Any, int, int], None]) -> None:
    """Call body(column, registers, lanes) in a loop over the pieces of 0 .. dim, the widest first."""
    start = _I64(0)
    for registers, lanes in PIECES:
        width = _I64(registers * lanes)
        stop = builder.sub(dim, builder.srem(builder.sub(dim, start), width))
        with cgutils.for_range_slice(builder, start, stop, width, _I64) as (column, _):
            body(column, registers, lanes)
        start = stop


def _modes(builder: Any, dim: Any, how: Any, body: Callable[[Any, int, int, int], None]) -> None:
    """Call body(column, registers, lanes, mode) for each piece of 0 .. dim, in the mode that `how` asks for."""

    def piece(column, registers, lanes):
        for mode in (HIDDEN, KEPT, STREAMED) if lanes > 1 else (HIDDEN, KEPT):
            asked = builder.icmp_signed("==", how, how.type(mode))
            if lanes == 1 and mode == KEPT:
                asked = builder.icmp_signed("!=", how, how.type(HIDDEN))
            with builder.if_then(asked):
                body(column, registers, lanes, mode)

    _pieces(builder, dim, piece)


def _total(builder: Any, vector: Any, lanes: int) -> Any:
    """The sum of a vector's lanes."""
    if lanes == 1:
        return vector
    kind = ir.FunctionType(_F64, [_F64, vector.type])
    total = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{lanes}f64")
    return builder.call(total, [_F64(0.0), vector], fastmath=("reassoc",))


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
        read_from = _Rows.of(context, b, kinds[0], arguments[0], v, v_stride)
        write_to = _Rows.of(context, b, kinds[6], arguments[6], o, o_stride)
        sums = _Rows.of(context, b, kinds[3], arguments[3], _I64(0), dim)
        factors = [_Rows.of(context, b, kinds[i], arguments[i], at, _I64(1)) for i in (10, 11, 12)]

        def pass_by(column, registers, lanes, mode):
            columns = [b.add(column, _I64(i * lanes)) for i in range(registers)]
            held = [cgutils.alloca_once_value(b, sums.read(w_row, c, lanes)) for c in columns]
            with cgutils.for_range(b, count, intp=_I64) as loop:
                t = loop.index
                if lanes > 1:
                    read_from.fetch(b.add(t, ahead), column, registers * lanes)
                    if mode == KEPT:
                        write_to.fetch(b.add(t, ahead), column, registers * lanes, to_write=True)
                keep, weight, norm = (_splat(b, f.read(t, _I64(0), 1), lanes) for f in factors)
                for place, c in zip(held, columns, strict=True):
                    old = b.load(place)
                    if mode == HIDDEN:
                        total = _multiply_add(b, read_from.read(t, c, lanes), weight, old)
                    else:
                        total = _multiply_add(b, old, keep, b.fmul(read_from.read(t, c, lanes), weight))
                    b.store(total, place)
                    if mode != HIDDEN:
                        write_to.write(t, c, b.fmul(total, norm), lanes, streamed=mode == STREAMED)
            for place, c in zip(held, columns, strict=True):
                sums.write(w_row, c, b.load(place), lanes)

        _modes(b, dim, how, pass_by)
        return context.get_dummy_value()

    place = types.intp
    given = (
        values,
        place,
        place,
        w,
        place,
        place,
        out,
        place,
        place,
        place,
        keeps,
        weights,
        norms,
        place,
        place,
        place,
    )
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
        rows = [_Rows.of(context, b, kinds[i], *arguments[i : i + 3]) for i in (0, 3, 6, 9)]
        read_from, outputs, gradients, write_to = rows
        w_row, dim, how, _, at, _, count, ahead = arguments[13:]
        sums = _Rows.of(context, b, kinds[12], arguments[12], _I64(0), dim)
        factors = _Rows.of(context, b, kinds[16], arguments[16], at, _I64(1))
        places = b.mul(at, _I64(2))
        dots = _Rows.of(context, b, kinds[18], arguments[18], places, _I64(2))

        def pass_by(column, registers, lanes, mode):
            columns = [b.add(column, _I64(i * lanes)) for i in range(registers)]
            held = [cgutils.alloca_once_value(b, sums.read(w_row, c, lanes)) for c in columns]
            with cgutils.for_range(b, count, intp=_I64) as loop:
                t = b.sub(b.sub(count, _I64(1)), loop.index)
                if lanes > 1:
                    for row in rows[:3] if mode != HIDDEN else rows[1:3]:
                        row.fetch(b.sub(t, ahead), column, registers * lanes)
                gate = factors.read(t, _I64(0), 1)
                keep, gate = _splat(b, b.fsub(_F64(1.0), gate), lanes), _splat(b, gate, lanes)
                with_values = with_outputs = ir.Constant(_double(lanes), None if lanes > 1 else 0.0)
                for place, c in zip(held, columns, strict=True):
                    gradient = gradients.read(t, c, lanes)
                    total = b.fadd(b.load(place), gradient)
                    with_outputs = _multiply_add(b, gradient, outputs.read(t, c, lanes), with_outputs)
                    if mode != HIDDEN:
                        with_values = _multiply_add(b, total, read_from.read(t, c, lanes), with_values)
                        write_to.write(t, c, b.fmul(total, gate), lanes, streamed=mode == STREAMED)
                    b.store(b.fmul(total, keep), place)
                for i, dot in enumerate((with_values, with_outputs)):
                    if i or mode != HIDDEN:
                        place = dots.at(t, _I64(i), 1)
                        b.store(b.fadd(b.load(place), _total(b, dot, lanes)), place)
            for place, c in zip(held, columns, strict=True):
                sums.write(w_row, c, b.load(place), lanes)

        _modes(b, dim, how, pass_by)
        return context.get_dummy_value()

    place = types.intp
    rows = (values, place, place, out, place, place, d_out, place, place, d_values, place, place)
    return types.void(*rows, w, place, place, place, gates, place, dots, place, place), generate
