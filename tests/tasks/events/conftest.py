"""Small sets, models and jobs for the event tests."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

OPTIONS = {
    "batch_size": 8,
    "eval_batch_size": 16,
    "max_tokens": 8192,
    "unit": "1",
    "grid": 0.0,
    "ties": "refuse",
    "origin": "window",
    "survival": True,
    "split": "rows",
    "split_seed": 0,
    "val_fraction": 0.15,
    "generator": None,
    "generator_seed": 0,
    "n_sequences": 100,
}
SIZES = {"d_model": 16, "n_layers": 2, "n_heads": 1, "d_ff": 16, "dropout": 0.0}


@pytest.fixture
def options():
    def make(**changes: Any) -> dict[str, Any]:
        assert not changes.keys() - OPTIONS.keys()
        return OPTIONS | changes

    return make


@pytest.fixture
def make_sequences():
    """EventSequences from lists of times and marks."""
    from tasks.events.sequences import from_lists

    def make(times, marks=None, *, n_marks=1, unit="1", **kw):
        arrays = [np.asarray(t, float) for t in times]
        rows = None if marks is None else [np.asarray(m) for m in marks]
        return from_lists(arrays, rows, path="events.txt", n_marks=n_marks, unit=unit, **kw)

    return make


@pytest.fixture
def random_sequences(make_sequences):
    """Marked sequences of uneven lengths in a known window."""

    def make(n=12, n_marks=4, seed=0, window=(0.0, 100.0), longest=30):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(2, longest, n)
        times = [np.sort(rng.uniform(0, 90, length)) for length in lengths]
        marks = [rng.integers(0, n_marks, length) for length in lengths]
        return make_sequences(times, marks, n_marks=n_marks, window=window)

    return make


@pytest.fixture
def make_data(options):
    from tasks.events.data import EventData

    def make(sequences, *, process=None, folds=None, fold=None, **changes):
        changes = {"unit": sequences.unit} | changes
        return EventData(
            sequences, options(**changes), seed=0, source="events.txt", process=process, folds=folds, fold=fold
        )

    return make


@pytest.fixture
def make_model():
    from tasks.events.model import EventModel
    from tasks.events.statistics import GapStatistics

    def make(n_marks=4, attention="aaren", statistics=None, seed=0, **changes):
        torch.manual_seed(seed)
        statistics = statistics or GapStatistics(0.5, 1.2, 1.6)
        settings = {"gap_input": True} | SIZES | changes
        return EventModel(n_marks=n_marks, statistics=statistics, attention=attention, **settings).eval()

    return make


@pytest.fixture
def damaged():
    """What happens to files: cut at places, single bits flipped, and random edits of 1 to 3 bytes."""

    def make(
        whole: bytes, *, cuts: int = 100, flips: int = 300, edits: int = 0, alphabet: bytes = b"", seed: int = 0
    ) -> Iterator[tuple[str, bytes]]:
        rng = np.random.default_rng([16, seed])
        for size in rng.choice(len(whole), min(cuts, len(whole)), replace=False):
            yield f"cut at {size}", whole[:size]
        for bit in rng.choice(8 * len(whole), min(flips, 8 * len(whole)), replace=False):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit}", bytes(flipped)
        for edit in range(edits):
            content = bytearray(whole)
            for _ in range(rng.integers(1, 4)):
                place, byte = int(rng.integers(len(content))), alphabet[rng.integers(len(alphabet))]
                match int(rng.integers(3)):
                    case 0:
                        content[place] = byte
                    case 1:
                        content.insert(place, byte)
                    case _:
                        del content[place]
            yield f"edit {edit}", bytes(content)

    return make


@pytest.fixture
def foreign():
    """What stands in place of data: nothing, a server's page, an archive of the data."""

    def make(whole: bytes) -> dict[str, bytes]:
        page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
        return {"empty": b"", "page": page, "long page": page.ljust(len(whole)), "gzip": gzip.compress(whole)}

    return make
