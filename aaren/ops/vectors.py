"""What vector code of our own is made of: pieces of rows in registers, read, written and asked for ahead; e^x.

The vectors are eight doubles wide; a processor with narrower ones takes two or four of its own for each. Every
multiply-add is one instruction where the processor has it, in pieces of any size, so that the same numbers give the
same bits however a row or a run of tokens is cut. Importing this module imports numba.
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

F64, I64, I32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
_SHIFT = 1.5 * 2.0**52  # added to a double below 2^51, it leaves the nearest integer in the low bits
_LN2 = (float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45"))  # the sum is ln 2; n * first: exact
_LOWEST = -708.0  # e^x is a normal number from here on; what is below counts for nothing beside the 1 of the maximum


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c for doubles or vectors of them."""
    name = "llvm.fmuladd." + (f"v{a.type.count}f64" if isinstance(a.type, ir.VectorType) else "f64")
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


@intrinsic
def exp_below(typing_context, x):
    """e^x for x <= 0 or NaN, without a branch or a call, so that a loop of it becomes vector code; 0 below -708."""

    def generate(context, builder, signature, arguments):
        (x,) = arguments
        shifted = multiply_add(builder, x, F64(1.0 / math.log(2.0)), F64(_SHIFT))
        whole = builder.fsub(shifted, F64(_SHIFT))
        rest = multiply_add(builder, whole, F64(-_LN2[0]), x)
        rest = multiply_add(builder, whole, F64(-_LN2[1]), rest)
        result = F64(1.0 / math.factorial(13))
        for k in range(12, -1, -1):
            result = multiply_add(builder, result, rest, F64(1.0 / math.factorial(k)))
        # Add the integer to the exponent: its low bits are those of `shifted`, and what is above them is shifted out.
        power = builder.shl(builder.bitcast(shifted, I64), I64(52))
        result = builder.bitcast(builder.add(builder.bitcast(result, I64), power), F64)
        result = builder.select(builder.fcmp_ordered("<", x, F64(_LOWEST)), F64(0.0), result)
        return builder.select(builder.fcmp_unordered("uno", x, x), x, result)

    return types.float64(types.float64), generate


class Rows(NamedTuple):
    """Rows of one flat array at a fixed stride: where row t begins, and how a piece of it is read and written."""

    builder: Any
    data: Any
    first: Any
    stride: Any

    @classmethod
    def of(cls, context: Any, builder: Any, kind: Any, array: Any, first: Any, stride: Any) -> Rows:
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
        return value if self._wide() else self.builder.fpext(value, double(lanes))

    def write(self, t: Any, column: Any, value: Any, lanes: int, *, streamed: bool = False) -> None:
        """Doubles into a piece, rounded to the array's type."""
        b, place = self.builder, self.at(t, column, lanes)
        value = value if self._wide() else b.fptrunc(value, _vector(self.data.type.pointee, lanes))
        store = b.store(value, place, align=lanes * self._align() if streamed else self._align())
        if streamed:
            store.set_metadata("nontemporal", b.module.add_metadata([I32(1)]))

    def fetch(self, t: Any, column: Any, width: int, *, to_write: bool = False) -> None:
        """Ask for `width` elements of row t, which need not exist, without waiting for them."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        fetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        for first in range(0, width, _LINE // self._align()):
            place = self.builder.bitcast(self.at(t, self.builder.add(column, I64(first)), 1), byte)
            self.builder.call(fetch, [place, I32(int(to_write)), I32(3), I32(1)])  # into every cache, data

    def _wide(self) -> bool:
        return self.data.type.pointee == F64

    def _align(self) -> int:
        return 8 if self._wide() else 4


def _vector(element: Any, lanes: int) -> Any:
    return element if lanes == 1 else ir.VectorType(element, lanes)


def double(lanes: int) -> Any:
    return _vector(F64, lanes)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    if lanes == 1:
        return value
    vector = builder.insert_element(ir.Constant(double(lanes), ir.Undefined), value, I32(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _pieces(builder: Any, dim: Any, body: Callable[[Any, int, int], None]) -> None:
    """Call body(column, registers, lanes) in a loop over the pieces of 0 .. dim, the widest first."""
    start = I64(0)
    for registers, lanes in PIECES:
        width = I64(registers * lanes)
        stop = builder.sub(dim, builder.srem(builder.sub(dim, start), width))
        with cgutils.for_range_slice(builder, start, stop, width, I64) as (column, _):
            body(column, registers, lanes)
        start = stop


def modes(builder: Any, dim: Any, how: Any, body: Callable[[Any, int, int, int], None]) -> None:
    """Call body(column, registers, lanes, mode) for each piece of 0 .. dim, in the mode that `how` asks for."""

    def piece(column, registers, lanes):
        for mode in (HIDDEN, KEPT, STREAMED) if lanes > 1 else (HIDDEN, KEPT):
            asked = builder.icmp_signed("==", how, how.type(mode))
            if lanes == 1 and mode == KEPT:
                asked = builder.icmp_signed("!=", how, how.type(HIDDEN))
            with builder.if_then(asked):
                body(column, registers, lanes, mode)

    _pieces(builder, dim, piece)


def total_of(builder: Any, vector: Any, lanes: int) -> Any:
    """The sum of a vector's lanes."""
    if lanes == 1:
        return vector
    kind = ir.FunctionType(F64, [F64, vector.type])
    total = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{lanes}f64")
    return builder.call(total, [F64(0.0), vector], fastmath=("reassoc",))
