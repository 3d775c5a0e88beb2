"""A padded batch of sequences with everything scoring needs already indexed: no loop over events anywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.events.sequences import EventSequences


class EventBatch(NamedTuple):
    """B sequences of at most N events; P predicted events; R known windows.

    times [B, N] float64 since each sequence's origin, marks [B, N] int64, valid [B, N] bool. For predicted events:
    source [P], the place of the event before it in the flattened [B N], gap [P] float64, target mark [P], row [P] its
    sequence, last [P] whether the sequence ends with it. tail [R] is the time from a sequence's last event to its
    window's end. index [B] names the sequences in their split.
    """

    times: Tensor
    marks: Tensor
    valid: Tensor
    source: Tensor
    gap: Tensor
    target: Tensor
    row: Tensor
    last: Tensor
    tail_source: Tensor
    tail: Tensor
    tail_row: Tensor
    index: Tensor


def origins(sequences: EventSequences, origin: str) -> np.ndarray:
    """Where a sequence's clock starts: at its window's start (`window`) or at its first event (`first`), [S]."""
    first = sequences.times[sequences.offsets[:-1]]
    if origin == "first":
        return first
    return np.where(np.isfinite(sequences.window_start), sequences.window_start, first)


def make_batch(sequences: EventSequences, origin: np.ndarray, index: np.ndarray) -> EventBatch:
    """The sequences at `index`, padded to the longest of them. `origin` [S] is subtracted from their times."""
    lengths = sequences.lengths[index]
    columns = np.arange(lengths.max())
    valid = columns < lengths[:, None]
    place = np.where(valid, sequences.offsets[index][:, None] + columns, 0)
    times = np.where(valid, sequences.times[place] - origin[index][:, None], 0.0)
    marks = np.where(valid, sequences.marks[place], 0)
    predicted = valid.copy()
    predicted[:, 0] = False
    row, column = np.nonzero(predicted)
    width = len(columns)
    tail = sequences.window_end[index] - sequences.times[sequences.offsets[index + 1] - 1]
    tail_row = np.flatnonzero(tail > 0)
    arrays = {
        "times": times,
        "marks": marks,
        "valid": valid,
        "source": row * width + column - 1,
        "gap": times[row, column] - times[row, column - 1],
        "target": marks[row, column],
        "row": row,
        "last": column == lengths[row] - 1,
        "tail_source": tail_row * width + lengths[tail_row] - 1,
        "tail": tail[tail_row],
        "tail_row": tail_row,
        "index": index,
    }
    return EventBatch(**{name: torch.from_numpy(array) for name, array in arrays.items()})
