"""The paper's Figure 5 anew: memory and cumulative time of a stream, one layer of the paper's block.

Running every rival through the whole stream takes hours where the cache is long. So the time of a token is taken at a
few fillings of the state, all rivals in turn, and integrated (trapezoids: exact where it grows in proportion to the
tokens seen, as attention over a cache does). Aaren's single stream is also run whole, token after token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from bench_common import Row, release, spread, timed
from torch import Tensor, nn

from aaren import Attention, Backbone, CausalSelfAttention
from aaren.cache import KeyValueCache
from aaren.ops import PrefixState, initial_prefix_state, prefix_attention
from aaren.state import State

D_MODEL, D_FF, HEADS = 512, 2048, 8
SAMPLED, WHOLE = "sampled at fillings and integrated", "run whole"
MODELS = ("aaren", "transformer", "naive cache", "gru", "lstm")
PAPER = (0, 1000, 2000, 3000, 4000, 5000)  # tokens at which the paper's figure can be read off
LONG = (10_000, 20_000, 50_000, 100_000)


class NaiveCache(CausalSelfAttention):
    """The cache as it is often written: keys and values joined anew with every token."""

    def step(self, x_t: Tensor, state: Any, valid_t: Tensor | None = None) -> tuple[Tensor, Any]:
        queries, *new = (self.split_heads(w(x_t)[:, None]) for w in (self.w_q, self.w_k, self.w_v))
        keys, values = (torch.cat([old, token], 2) for old, token in zip(state, new, strict=True))
        return self.merge_heads(F.scaled_dot_product_attention(queries, keys, values))[:, 0], (keys, values)


class RecurrentCell(Attention):
    """A GRU or LSTM cell in the place of the attention: the classical models of constant memory."""

    def __init__(self, d_model: int, n_heads: int, *, cell: type[nn.Module], dropout: float = 0.0, **_: Any) -> None:
        super().__init__(d_model, n_heads, dropout=dropout)
        del self.w_v, self.w_o  # the cell has its own
        self.cell = cell(d_model, d_model)

    def step(self, x_t: Tensor, state: Any, valid_t: Tensor | None = None) -> tuple[Tensor, Any]:
        state = self.cell(x_t, state)
        return (state[0] if isinstance(state, tuple) else state), state


CLASSES: dict[str, Any] = {
    "aaren": "aaren",
    "transformer": "transformer",
    "naive cache": NaiveCache,
    "gru": partial(RecurrentCell, cell=nn.GRUCell),
    "lstm": partial(RecurrentCell, cell=nn.LSTMCell),
}


def paper_block(model: str) -> Backbone:
    """One layer of the paper's block with that model's way to mix tokens."""
    return Backbone(CLASSES[model], d_model=D_MODEL, d_ff=D_FF, n_layers=1, n_heads=HEADS, final_norm=False).eval()


@torch.no_grad()
def filled_state(model: str, backbone: Backbone, streams: int, tokens: int, room: int) -> State:
    """What `model` remembers after `tokens` tokens, with `room` for more where it is allocated ahead."""
    shape = (streams, HEADS, tokens, backbone.d_model // HEADS)
    if model == "aaren":
        state = initial_prefix_state(streams, HEADS, shape[-1])
        for first in range(0, tokens, 500):
            count = min(500, tokens - first)
            values = torch.randn(streams, HEADS, count, shape[-1])
            state = prefix_attention(torch.randn(streams, HEADS, count), values, state)[1]
        return State((PrefixState(*state),))
    if model == "transformer":
        like = next(backbone.parameters())
        cache = KeyValueCache.empty(streams, HEADS, shape[-1], like=like, capacity=tokens + room)
        for part in (cache.keys, cache.values):
            part.copy_(torch.randn(streams, HEADS, 1, shape[-1]).expand_as(part))
        return State((KeyValueCache(cache.keys, cache.values, None, tokens),))
    if model == "naive cache":
        tokens_of_one = (torch.randn(streams, HEADS, 1, shape[-1]) for _ in range(2))
        return State((tuple(one.expand(shape).contiguous() for one in tokens_of_one),))
    vectors = tuple(torch.rand(streams, backbone.d_model) for _ in range(2))
    return State((vectors if model == "lstm" else vectors[0],))


def used_bytes(state: State) -> int:
    """Bytes of what the tokens so far left behind; a cache's room for tokens to come is not counted."""
    layer = state.layers[0]
    if isinstance(layer, KeyValueCache):
        return sum(t.numel() * t.element_size() for t in (layer.keys_seen, layer.values_seen))
    return state.nbytes


def sampled_rows(streams: int, fillings: Sequence[int], repeats: int, models: Sequence[str] = MODELS) -> Iterator[Row]:
    """Milliseconds of a token (for all streams together) at every filling, and their integral so far in seconds."""
    burst = 2 if streams > 16 else 8  # tokens timed together
    backbones = {model: paper_block(model) for model in models}
    x = torch.randn(streams, D_MODEL)
    total: dict[str, dict[str, float]] = {model: dict.fromkeys(("ms", "ms_q1", "ms_q3"), 0.0) for model in models}
    before: dict[str, Row] = {}
    for filling in fillings:
        backbones = {m: backbone for m, backbone in backbones.items() if _fits(m, streams, filling)}
        states = {m: filled_state(m, backbone, streams, filling, burst) for m, backbone in backbones.items()}
        sizes = {model: used_bytes(state) for model, state in states.items()}
        functions = {m: partial(run_burst, backbones[m], states[m], x, burst) for m in backbones}
        taken = timed(functions, repeats)
        for model in backbones:
            now = spread([ms / burst for ms in taken[model]])
            if model in before:
                width = filling - before[model]["tokens"]
                for key in total[model]:
                    total[model][key] += width * (now[key] + before[model][key]) / 2
            before[model] = now | {"tokens": filling}
            row = {"model": model, "streams": streams, "tokens": filling, "how": SAMPLED} | now
            row |= {"cumulative_s" + key[2:]: value / 1e3 for key, value in total[model].items()}
            yield row | {"state_bytes": sizes[model]}
        del states, functions, taken
        release()


def _fits(model: str, streams: int, tokens: int) -> bool:
    """Whether the memory free now holds a cache of that size; the naive one needs room for its copies."""
    copies = {"transformer": 1, "naive cache": 5}.get(model, 0)
    needed = copies * 2 * 4 * streams * tokens * D_MODEL
    if needed < 0.8 * psutil.virtual_memory().available:
        return True
    print(f"{model}: {streams} streams of {tokens} tokens need {needed / 1e9:.0f} GB, more than is free; left out")
    return False


def run_burst(backbone: Backbone, start: State, x: Tensor, burst: int) -> None:
    """Some tokens from a given filling; every call begins there again."""
    state = _shared(start)
    with torch.no_grad():
        for _ in range(burst):
            _, state = backbone.step(x, state)


def _shared(state: State) -> State:
    """A state that may be consumed; a cache's memory is shared, for writing beyond its end does no harm."""
    return state if not isinstance(state.layers[0], PrefixState) else state.clone()


def whole_rows(tokens: Sequence[int], clock: Callable[[], float] = time.thread_time) -> Iterator[Row]:
    """One Aaren stream run token after token: cumulative seconds at each of `tokens`, and the spread in between."""
    backbone, x = paper_block("aaren"), torch.randn(1, D_MODEL)
    state, piece = backbone.initial_state(1), 50
    with torch.no_grad():
        for _ in range(piece):  # compiles, fills caches
            backbone.step(x, backbone.initial_state(1))
        seen, total = 0, 0.0
        for mark in tokens:
            times = []
            while seen < mark:
                count = min(piece, mark - seen)
                start = clock()
                for _ in range(count):
                    _, state = backbone.step(x, state)
                taken = clock() - start
                times.append(taken * 1e3 / count)
                seen, total = seen + count, total + taken
            if times:
                row = {"model": "aaren", "streams": 1, "tokens": mark, "how": WHOLE} | spread(times)
                yield row | {"cumulative_s": total, "state_bytes": state.nbytes}
