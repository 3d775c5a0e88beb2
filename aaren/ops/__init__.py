"""Prefix attention, the operator of Aaren: all tokens in parallel, or one token at a time."""

from aaren.ops.dispatch import available_backends, prefix_attention
from aaren.ops.state import PrefixState, combine, initial_prefix_state
from aaren.ops.step import prefix_step

__all__ = [
    "PrefixState",
    "available_backends",
    "combine",
    "initial_prefix_state",
    "prefix_attention",
    "prefix_step",
]
