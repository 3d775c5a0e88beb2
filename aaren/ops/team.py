"""Compiled code on several threads: what shares the tasks of a kernel among the team of `threads.team`.

Importing this module imports numba.
"""

from __future__ import annotations

# pyright: reportCallIssue=false, reportArgumentType=false
# (`intrinsic` supplies the first argument of the function it decorates, which the type checker cannot know)
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

_VOID, _I32, _I64 = ir.VoidType(), ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_BODY = ir.FunctionType(_VOID, [_BYTES])  # what a thread of the team runs, and on what
_TEAM = ir.FunctionType(_VOID, [_BODY.as_pointer(), _BYTES, _I32, _I32])  # body, data, threads, flags
_NEXT, _DONE, _TASKS, _FIRST = 0, 1, 2, 3  # what the threads share: tasks claimed, done, in all, and the arguments
_NO_MEMORY = "prefix_attention: a thread found no memory for its sums"  # a kernel's one way to fail


@intrinsic
def share(typing_context, team, threads, tasks, kernel, arguments):
    """kernel(*arguments, task) for each task in range(tasks), claimed in their order.

    A thread that starts late, or that another program keeps from its core, leaves its tasks to the others, and a team
    smaller than asked does all of them: no task may wait for another.

    team: address of the function that runs a team, as `threads.team` tells it; not called for one thread or task.
    Raises MemoryError, in compiled code, if a task did not end well.
    """
    signature = typing_context.resolve_function_type(kernel, (*arguments, types.intp), {})

    def generate(context, builder, _, given):
        team, threads, tasks, _, packed = given
        each = cgutils.unpack_tuple(builder, _lent(context, builder, arguments, packed), len(arguments))
        kinds = [_I64, _I64, _I64, *(value.type for value in each)]
        shared = cgutils.alloca_once(builder, ir.LiteralStructType(kinds))
        for place, value in enumerate([_I64(0), _I64(0), tasks, *each]):
            builder.store(value, _place(builder, shared, place))
        body = _body(context, builder, kernel, signature, shared.type)
        data = builder.bitcast(shared, _BYTES)
        several = builder.and_(builder.icmp_signed(">", threads, _I64(1)), builder.icmp_signed(">", tasks, _I64(1)))
        with builder.if_else(several) as (then, otherwise):
            with then:
                run = builder.inttoptr(team, _TEAM.as_pointer())
                builder.call(run, [body, data, builder.trunc(threads, _I32), _I32(0)])
            with otherwise:
                builder.call(body, [data])
        done = builder.load(_place(builder, shared, _DONE))
        with cgutils.if_unlikely(builder, builder.icmp_signed("!=", done, tasks)):
            context.call_conv.return_user_exc(builder, MemoryError, (_NO_MEMORY,))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, kernel, arguments), generate


def _lent(context, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> ir.Value:
    """Arrays without their owner, whom the caller holds: threads that count references to one contend for the count."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        parts = zip(tuple(kind), cgutils.unpack_tuple(builder, value, len(kind)), strict=True)
        return context.make_tuple(builder, kind, [_lent(context, builder, *part) for part in parts])
    return value


def _place(builder: ir.IRBuilder, shared: ir.Value, index: int) -> ir.Value:
    return builder.gep(shared, [_I32(0), _I32(index)], inbounds=True)


def _body(context, builder: ir.IRBuilder, kernel: types.Dispatcher, signature: Signature, kind: ir.Type) -> ir.Function:
    """A function of the module at work that claims tasks of `kernel` until none is left."""
    body = ir.Function(builder.module, _BODY, builder.module.get_unique_name("team_body"))
    body.linkage = "internal"
    made = kernel.dispatcher.get_compile_result(signature)
    context.add_linking_libs([made.library])
    inside = ir.IRBuilder(body.append_basic_block("entry"))
    shared = inside.bitcast(body.args[0], kind)
    claim, work, end = (body.append_basic_block(name) for name in ("claim", "work", "end"))
    tasks = inside.load(_place(inside, shared, _TASKS))
    values = [inside.load(_place(inside, shared, _FIRST + i)) for i in range(len(signature.args) - 1)]
    inside.branch(claim)
    inside.position_at_end(claim)
    task = inside.atomic_rmw("add", _place(inside, shared, _NEXT), _I64(1), "seq_cst")
    inside.cbranch(inside.icmp_signed("<", task, tasks), work, end)
    inside.position_at_end(work)
    function = context.declare_function(builder.module, made.fndesc)
    status, _ = context.call_conv.call_function(
        inside, function, made.fndesc.restype, made.fndesc.argtypes, [*values, task]
    )
    well = inside.zext(status.is_ok, _I64)
    inside.atomic_rmw("add", _place(inside, shared, _DONE), well, "seq_cst")
    inside.branch(claim)
    inside.position_at_end(end)
    inside.ret_void()
    return body


@intrinsic
def settle(typing_context):
    """Wait until what was written past the caches is in memory: no other order holds for such writes."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
