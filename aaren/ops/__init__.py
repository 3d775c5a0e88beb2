"""Prefix attention: o_k = sum_{i<=k} e^{s_i} v_i / sum_{i<=k} e^{s_i}, in parallel and one token at a time."""

from aaren.ops.dispatch import available_backends, prefix_attention
from aaren.ops.state import PrefixState, combine
from aaren.ops.step import prefix_step

__all__ = ["PrefixState", "available_backends", "combine", "prefix_attention", "prefix_step"]
