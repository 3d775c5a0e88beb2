"""Attention as an RNN: the Aaren module, its prefix-scan operator, and causal stacks to put it in."""

from aaren.ablations import CausalMean, NoMixing
from aaren.attention import Aaren, Attention, CausalSelfAttention
from aaren.backbone import Backbone, Block
from aaren.cache import KeyValueCache
from aaren.ops import PrefixState, prefix_attention, prefix_step
from aaren.queries import AarenQueries
from aaren.registry import attention_class, attention_names, register_attention
from aaren.state import State
from aaren.stream import Stream

__all__ = [
    "Aaren",
    "AarenQueries",
    "Attention",
    "Backbone",
    "Block",
    "CausalMean",
    "CausalSelfAttention",
    "KeyValueCache",
    "NoMixing",
    "PrefixState",
    "State",
    "Stream",
    "attention_class",
    "attention_names",
    "prefix_attention",
    "prefix_step",
    "register_attention",
]
