"""What threads at work in compiled code tell each other: counters in an int64 array, one to a cache line.

Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false, reportArgumentType=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_BYTES = 8


def _element(context, builder, kind, array, index):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def claim(typing_context, counters, index):
    """counters[index] as it was, and 1 more from now on: no two threads are given the same number."""

    def generate(context, builder, signature, arguments):
        place = _element(context, builder, signature.args[0], *arguments)
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "seq_cst")

    return types.int64(counters, types.intp), generate


@intrinsic
def seen(typing_context, counters, index):
    """counters[index], and with it all that was written before it was published."""

    def generate(context, builder, signature, arguments):
        place = _element(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(place, "acquire", _BYTES)

    return types.int64(counters, types.intp), generate


@intrinsic
def publish(typing_context, counters, index, value):
    """Let counters[index] be `value` for whoever sees it, after all that was written before."""

    def generate(context, builder, signature, arguments):
        place = _element(context, builder, signature.args[0], *arguments[:2])
        builder.store_atomic(arguments[2], place, "release", _BYTES)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), generate


@intrinsic
def settle(typing_context):
    """Wait until what was written past the caches is in memory: no other order holds for such writes."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
