"""How many events a CPU-second the family trains on and streams, and what bucketing and the fused forms are worth."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aaren import CausalSelfAttention
from aaren.attention import Attention
from tasks.data import DatasetUnavailable, load_cached, resolve
from tasks.events.batch import EventBatch
from tasks.events.data import PARSE_VERSION, EventData, parse
from tasks.events.model import EventModel
from tasks.events.scoring import log_likelihood
from tasks.events.sequences import EventSequences, from_lists
from tasks.events.streaming import EventForecaster

SIZES: dict[str, Any] = {"d_model": 64, "n_layers": 2, "n_heads": 1, "d_ff": 64, "dropout": 0.1}
USERS, MARKS = 3424, 22  # of StackOverflow's kept train part


class NaiveCausalSoftmax(CausalSelfAttention):
    """The rival: the whole [N, N] matrix of scores, masked and normalised, as event code bases write it."""

    def forward(self, x: Tensor, valid: Tensor | None = None, state: Any = None) -> tuple[Tensor, Any]:
        q, k, v = (self.split_heads(w(x)) for w in (self.w_q, self.w_k, self.w_v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.d_head)  # [B, H, N, N]
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).tril()
        if valid is not None:
            seen = seen & valid[:, None, None, :]
        weights = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1)
        return self.merge_heads(weights @ v), state


def stackoverflow() -> EventData:
    """The train part of StackOverflow where the data root has it, else invented events of the same lengths."""
    try:
        found = resolve("StackOverflow")
    except DatasetUnavailable:
        return as_data(stackoverflow_like())
    sequences = EventSequences.from_arrays(load_cached(found, parse, PARSE_VERSION)).in_unit("10^6 s")
    return as_data(sequences.select(np.flatnonzero(sequences.split == 0)))


def stackoverflow_like(seed: int = 0) -> EventSequences:
    """Sequences with the number, lengths and marks of StackOverflow's kept train users; the events are invented."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(736, 41 + rng.gamma(0.5, 62.0, USERS)).astype(int)  # mean 72, median near 57
    times = [np.cumsum(rng.lognormal(-0.8, 1.8, n)) for n in lengths]
    return from_lists(
        times, [rng.integers(0, MARKS, n) for n in lengths], path="invented", n_marks=MARKS, unit="10^6 s"
    )


def as_data(sequences: EventSequences) -> EventData:
    """All sequences but two as training data, in the paper profile's batches of 16."""
    sequences.split[:] = 0
    sequences.split[:1], sequences.split[1:2] = 1, 2
    options = {"batch_size": 16, "eval_batch_size": 64, "max_tokens": 32768, "unit": sequences.unit, "grid": 0.0}
    options |= {"ties": "refuse", "origin": "first", "survival": True, "split": "published", "split_seed": 0}
    return EventData(sequences, options | {"val_fraction": 0.1}, seed=0, source="invented")


def train_rate(data: EventData, attention: str | type[Attention], *, bucketed: bool, share: float) -> dict[str, float]:
    """CPU seconds of an epoch, from a `share` of its batches; events a CPU-second; the share spent in the backbone."""
    model = EventModel(n_marks=data.n_marks, statistics=data.statistics, attention=attention, **SIZES).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    rows = np.argsort(data.rows["train"])
    batches = data.train_batches(0) if bucketed else np.array_split(rows, np.arange(16, len(rows), 16))
    chosen = batches[:: max(1, round(1 / share))]
    _step(model, optimiser, data.batch("train", chosen[0]))  # compiles, fills caches
    start, events, tokens, inside = time.thread_time(), 0, 0, 0.0
    for index in chosen:
        batch = data.batch("train", index)
        _step(model, optimiser, batch)
        events += len(batch.gap)
        tokens += batch.valid.numel()
    spent = time.thread_time() - start
    for index in chosen[::4]:
        inside += _backbone_seconds(model, data.batch("train", index))
    real = sum(int(data.splits["train"].lengths[index].sum()) for index in chosen)
    return {
        "epoch_cpu_s": spent * len(batches) / len(chosen),
        "events_per_cpu_s": events / spent,
        "backbone_share": inside * len(chosen) / len(chosen[::4]) / spent,
        "padding": 1 - real / tokens,
    }


def stream_rate(attention: str, *, entities: int, steps: int) -> dict[str, float]:
    """Events a CPU-second through `step` for many entities at once, and the bytes of an entity's state at the end."""
    data = as_data(stackoverflow_like())
    model = EventModel(n_marks=MARKS, statistics=data.statistics, attention=attention, **SIZES)
    forecaster, times = EventForecaster(model), torch.zeros(entities, dtype=torch.float64)
    state, marks = forecaster.initial_state(entities), torch.zeros(entities, dtype=torch.long)
    state, _ = forecaster.step(state, times, marks)
    start = time.thread_time()
    for _ in range(steps):
        times = times + 0.5
        state, _ = forecaster.step(state, times, marks)
    return {
        "events_per_cpu_s": entities * steps / (time.thread_time() - start),
        "state_bytes": state.nbytes / entities,
    }


def _step(model: EventModel, optimiser: torch.optim.Optimizer, batch: EventBatch) -> None:
    optimiser.zero_grad()
    (-torch.stack(log_likelihood(model, batch)).sum() / 1000).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _backbone_seconds(model: EventModel, batch: EventBatch) -> float:
    with torch.no_grad():
        gaps = torch.nn.functional.pad(batch.times[:, 1:] - batch.times[:, :-1], (1, 0))
        tokens = model.tokens(batch.times, batch.marks, gaps)
    tokens.requires_grad_()
    start = time.thread_time()
    model.encode(tokens, batch.valid)[0].sum().backward()
    return time.thread_time() - start
