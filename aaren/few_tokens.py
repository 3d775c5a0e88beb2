"""A few tokens a stream at once: for a stream whose tokens come in groups, such as return, state and action.

As many steps would read the weights once a token and finish outputs that nobody reads; the parallel form folds the
query anew and goes through operators made for gradients, which costs more than the arithmetic of a few tokens.  Here
a layer's products are made for all tokens together from what a step remembers, and the last block ends at what is read.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aaren._typing import Float
from aaren.attention import Aaren
from aaren.backbone import Backbone, Block
from aaren.fused_step import Feed
from aaren.quick import remembered, serves
from aaren.reading import Read, at_tokens, check_read
from aaren.state import State


def extend(
    backbone: Backbone, x: Float[Tensor, "B N d"], state: State | None = None, read: Read = None
) -> tuple[Float[Tensor, "B R d"], State]:
    """`backbone(x, state=state, read=read)` to float32's precision; may consume `state`, as `step` does.

    Quicker for few tokens in evaluation without gradients, on a CPU; wherever the quick form does not serve, it is the
    parallel form itself.

    Args:
        backbone: around any registered attention.
        x: the new tokens, all of them real.
        state: continue from here (None: from nothing).
        read: a slice or int64 positions: the outputs y[:, read] alone (None: all).

    Raises:
        TypeError, IndexError, ValueError: as `Backbone.forward`.
    """
    if backbone.training or not serves(x):
        return backbone(x, state=state, read=read)
    backbone._check(x, None, None, ndim=3)
    check_read(read, x.shape[1])
    # Token by token in memory: rows of one token lie together, as the step's kernels read them.
    x, states = x.transpose(0, 1).contiguous(), []
    last = len(backbone.blocks) - 1
    for number, (block, before) in enumerate(zip(backbone.blocks, backbone._layers(state), strict=True)):
        assert isinstance(block, Block)
        x, after = _through(block, x, before, read if number == last else None)
        states.append(after)
    return backbone.final_norm(x.transpose(0, 1)), State(tuple(states))


def _through(block: Block, x: Tensor, state: Any, read: Read) -> tuple[Tensor, Any]:
    """One block, [N, B, d] to [R, B, d]."""
    feed = remembered(block._remembered, Feed, block)
    if not feed.serves:
        y, state = block(x.transpose(0, 1), None, state, read)
        return y.transpose(0, 1).contiguous(), state
    mixed, state = _mix(block, feed.before(x), state, read)
    x = x if read is None else x[read]
    return feed.after(x.flatten(0, 1), mixed.flatten(0, 1)).view(x.shape), state


def _mix(block: Block, x: Tensor, state: Any, read: Read) -> tuple[Tensor, Any]:
    """The block's attention, [N, B, d] to [R, B, d]."""
    attention = block.attention
    if type(attention) is Aaren:
        state = attention.initial_state(x.shape[1]) if state is None else state
        attend = attention._attend_once()
        mixed = attend.tokens(x, state, read) if attend is not None and attend.serves else None
        if mixed is not None:
            return mixed, state
    if block._attention_reads:
        y, state = attention(x.transpose(0, 1), None, state, read=read)
        return y.transpose(0, 1), state
    y, state = attention(x.transpose(0, 1), None, state)
    return at_tokens(y, read).transpose(0, 1), state
