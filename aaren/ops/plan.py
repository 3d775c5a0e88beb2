"""How a call of the GPU operator is cut into programs: columns, chunks, and segments of the tokens.

A row that one program walks from end to end is read once and written once: with enough rows to occupy the whole GPU
that is the fastest way. With few rows each is split into segments, whose summaries a first launch makes. The values
are then read twice (forward) or the gradient of the outputs is (backward), so that at best 2/3 of a copy's bandwidth
can be reached forward and 4/5 backward, against one program for each row on a GPU of which most stands idle.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 8192  # bytes of a chunk in the dtype of the sums: 64 registers a lane; what comes of it fits the other 190
TILE_BACKWARD = 4096  # ... where twice as many tensors are at work (both found by compiling: no register spills)
FULL = 3  # programs of one warp a multiprocessor needs to be busy with one pass
SPLIT = 8  # ... and that a split makes
SEGMENTS = 128  # most of them a row: each reads the summaries of those before it
SHORTEST = 512  # tokens of a segment, which must be worth a launch


@dataclass(frozen=True)
class Plan:
    """chunk: tokens a step (a power of 2); columns: of the values a program holds (a power of 2); length: of segments.

    warps: of a program; stages: chunks in flight while one is worked on.
    """

    chunk: int
    columns: int
    length: int
    warps: int = 1
    stages: int = 3


_given: ContextVar[Plan | None] = ContextVar("plan", default=None)


@contextmanager
def planned(plan: Plan) -> Iterator[None]:
    """Cut every call inside as `plan` says: for measurements and tests."""
    token = _given.set(plan)
    try:
        yield
    finally:
        _given.reset(token)


def plan_for(values: Tensor, *, backward: bool = False) -> Plan:
    """The plan for values [B, H, N, D], from their shape and the GPU's size alone: the same call, the same bits."""
    given = _given.get()
    if given is not None:
        return given
    batch, heads, tokens, dim = values.shape
    columns = min(64, 1 << (dim - 1).bit_length())
    elements = (TILE_BACKWARD if backward else TILE) // (8 if values.dtype == torch.float64 else 4)
    chunk = max(1, min(128, elements // columns, 1 << (tokens - 1).bit_length()))
    programs = batch * heads * -(-dim // columns)
    processors = multiprocessors(values.device)
    segments = 1
    if programs < FULL * processors:
        segments = max(1, min(SEGMENTS, SPLIT * processors // max(1, programs), tokens // SHORTEST))
    length = -(-tokens // (segments * chunk)) * chunk
    return Plan(chunk, columns, length)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many there are; 1 where there is no GPU and Triton interprets the kernels."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
