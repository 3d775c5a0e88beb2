"""Our parquet and npz: read back exactly, or refused with a reason; never silently different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import DatasetError
from tasks.events.readers import check_facts, read_npz, read_parquet
from tasks.events.sequences import EventSequences

META = {"n_marks": "4", "unit": "hours", "window_start": "0.0", "window_end": "100.0"}


@pytest.fixture
def write_parquet(tmp_path):
    def write(columns=None, meta=None, drop=()):
        base = {
            "sequence": np.array([0, 0, 0, 1, 1], np.int32),
            "time": np.array([1.0, 2.0, 5.0, 0.5, 7.25]),
            "mark": np.array([0, 3, 1, 2, 2], np.int32),
            "split": ["train"] * 3 + ["test"] * 2,
        } | (columns or {})
        table = pa.table({k: v for k, v in base.items() if k not in drop})
        path = tmp_path / "events.parquet"
        pq.write_table(table.replace_schema_metadata(META | (meta or {})), path)
        return path

    return write


def test_parquet_is_read_whole(write_parquet):
    found = read_parquet(write_parquet(meta={"capped_sequences": "[1]"}))
    assert found.offsets.tolist() == [0, 3, 5]
    assert found.split.tolist() == [0, 2]
    assert (found.n_marks, found.unit) == (4, "hours")
    assert found.window_end[0] == 100
    assert np.isnan(found.window_end[1])  # cut at a count: nothing is known of the time after


@pytest.mark.parametrize(
    ("columns", "meta", "drop", "said"),
    [
        ({}, {}, ("mark",), "has no column mark"),
        ({}, {"unit": "parsecs"}, (), "unknown unit"),
        ({}, {"n_marks": "four"}, (), "metadata or columns"),
        ({}, {"n_marks": "3"}, (), "mark 3 outside the declared 0 to 2"),
        ({}, {"window_end": "6"}, (), "outside its window"),
        ({"sequence": np.array([0, 0, 1, 0, 1], np.int32)}, {}, (), "contiguous"),
        ({"sequence": np.array([1, 1, 1, 2, 2], np.int32)}, {}, (), "numbered 0"),
        ({"split": ["train"] * 2 + ["test"] * 3}, {}, (), "two splits"),
        ({"split": ["fit"] * 5}, {}, (), "unknown split 'fit'"),
        ({"time": pa.array([1.0, None, 5.0, 0.5, 7.0])}, {}, (), "empty cells"),
        ({"time": np.array([1.0, 2.0, 1.5, 0.5, 7.0])}, {}, (), "comes before"),
    ],
)
def test_wrong_parquet_is_refused(write_parquet, columns, meta, drop, said):
    with pytest.raises(DatasetError, match=said):
        read_parquet(write_parquet(columns, meta, drop))


def test_damaged_files_are_refused_or_read_the_same(write_parquet, random_sequences, tmp_path):
    """Below the hash check, which catches every alteration: the readers themselves raise nothing but DatasetError."""
    rng = np.random.default_rng(0)
    npz = tmp_path / "events.npz"
    np.savez(npz, **random_sequences(n=4).to_arrays())
    for path, reader in ((write_parquet(), read_parquet), (npz, read_npz)):
        whole = path.read_bytes()
        for size in rng.integers(0, len(whole), 60):
            path.write_bytes(whole[:size])
            with pytest.raises(DatasetError):
                reader(path)
        path.write_bytes(b"<html>404</html>")
        with pytest.raises(DatasetError):
            reader(path)


def test_npz_round_trip_with_folds_and_nothing_pickled(random_sequences, tmp_path):
    sequences, path = random_sequences(n=6), tmp_path / "events.npz"
    folds = np.zeros((2, 6), np.int8)
    np.savez(path, folds=folds, **sequences.to_arrays())
    arrays = read_npz(path)
    assert np.array_equal(arrays["folds"], folds)
    back = EventSequences.from_arrays(arrays)
    assert np.array_equal(back.times, sequences.times)
    assert np.array_equal(back.marks, sequences.marks)
    np.savez(path, **sequences.to_arrays() | {"marks": np.array([{}] * len(sequences.times), dtype=object)})
    with pytest.raises(DatasetError, match="no event file of ours"):
        read_npz(path)
    np.savez(path, **sequences.to_arrays() | {"offsets": sequences.offsets[::-1]})
    with pytest.raises(DatasetError, match="offsets do not fit"):
        read_npz(path)


def test_published_sizes_are_checked(random_sequences):
    sequences = random_sequences(n=6)
    events = len(sequences.times)
    check_facts(sequences, {"sequences": 6, "events": events}, {"length_min": int(sequences.lengths.min())}, Path("x"))
    with pytest.raises(DatasetError, match=f"events is {events}, published"):
        check_facts(sequences, {"events": events + 1}, {}, Path("x"))
    with pytest.raises(DatasetError, match=r"splits\.train is 0, published 6"):
        check_facts(sequences, {}, {"splits": {"train": 6}}, Path("x"))
