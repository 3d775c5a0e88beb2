"""Bad event data: each fault is named with its place and a remedy, or handled by a stated rule."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import DatasetError
from tasks.events.sequences import EventSequences, from_lists, resolve_ties, validate


@pytest.mark.parametrize(
    ("times", "marks", "window", "said"),
    [
        ([[1, 3, 2]], None, None, "sequence 0, event 2: time 2 comes before 3"),
        ([[1, 2], [5, np.nan]], None, None, "sequence 1, event 1: time nan is not finite"),
        ([[1, np.inf]], None, None, "time inf is not finite"),
        ([[1, 2], []], None, None, "sequence 1 is empty"),
        ([], None, None, "no sequences"),
        ([[1, 2]], [[0, 3]], None, "sequence 0, event 1: mark 3 outside the declared 0 to 2"),
        ([[1, 2]], [[-1, 0]], None, "event 0: mark -1 outside"),
        ([[1, 2]], [[0, 0.5]], None, "mark 0.5 is no integer"),
        ([[1, 2]], [[0]], None, "sequence 0 has 2 times but 1 marks"),
        ([[1, 2], [3]], [[0, 1]], None, "2 sequences of times, 1 of marks"),
        ([[1, 9]], None, (0.0, 5.0), "event 1: time 9 outside its window [0, 5]"),
        ([[1, 9]], None, (2.0, 10.0), "event 0: time 1 outside its window [2, 10]"),
        ([[-5, 1]], None, (0.0, 5.0), "outside its window"),
    ],
)
def test_faults_are_named(times, marks, window, said):
    arrays = [np.asarray(t, float) for t in times]
    rows = None if marks is None else [np.asarray(m) for m in marks]
    with pytest.raises(DatasetError) as caught:
        from_lists(arrays, rows, path="some/file", n_marks=3, unit="hours", window=window)
    assert said in str(caught.value)
    assert str(caught.value).startswith("some/file: ")
    assert "Fix: " in str(caught.value)


def test_unix_seconds_in_float32_are_refused_and_small_numbers_are_not():
    stamps = np.array([1.3e9, 1.3e9 + 500], np.float32)
    with pytest.raises(DatasetError, match=r"sequence 0: float32 times .* only exact to 128"):
        from_lists([stamps], None, path="x", n_marks=1, unit="seconds")
    hours = np.array([0.5, 23.5], np.float32)
    assert from_lists([hours], None, path="x", n_marks=1, unit="hours").times.tolist() == [0.5, 23.5]


def test_ties_are_refused_merged_or_spread(make_sequences):
    sequences = make_sequences([[0, 1, 1, 1, 2], [3, 3]], [[0, 1, 2, 3, 0], [1, 2]], n_marks=4, grid=0.5)
    with pytest.raises(DatasetError, match=r"sequence 0, event 2: the time 1 repeats.*ties=merge"):
        resolve_ties(sequences, "refuse", 0, "x")
    merged = resolve_ties(sequences, "merge", 0, "x")
    assert merged.times.tolist() == [0, 1, 2, 3]
    assert merged.marks.tolist() == [0, 1, 0, 1]  # the first of tied events stays
    assert merged.lengths.tolist() == [3, 1]
    spread = resolve_ties(sequences, "jitter", 0, "x")
    assert (spread.gaps()[np.isfinite(spread.gaps())] > 0).all()
    assert (np.floor(spread.times / 0.5) * 0.5 == sequences.times).all()
    assert np.array_equal(spread.times, resolve_ties(sequences, "jitter", 0, "x").times)
    assert sorted(spread.marks[:5].tolist()) == [0, 0, 1, 2, 3]
    with pytest.raises(DatasetError, match="needs the step of the clock"):
        resolve_ties(make_sequences([[0, 0]]), "jitter", 0, "x")


def test_select_unit_and_arrays_keep_every_event(random_sequences):
    sequences = random_sequences(n=5)
    rows = np.array([3, 0, 3])
    chosen = sequences.select(rows)
    for place, s in enumerate(rows):
        own = slice(chosen.offsets[place], chosen.offsets[place + 1])
        theirs = slice(sequences.offsets[s], sequences.offsets[s + 1])
        assert np.array_equal(chosen.times[own], sequences.times[theirs])
        assert np.array_equal(chosen.marks[own], sequences.marks[theirs])
    hours = EventSequences.from_arrays(sequences.to_arrays() | {"unit": np.array("hours")})
    days = hours.in_unit("days")
    assert days.times * 24 == pytest.approx(hours.times)
    assert days.window_end * 24 == pytest.approx(hours.window_end)
    validate(days, "x")
