"""Splits, statistics and batches of a job's event data."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import ConfigError, DatasetError
from tasks.events.simulate import generate
from tasks.events.twins import mimic_twin, reddit_twin


def _train(data):
    return {"times": data.splits["train"].times, "marks": data.splits["train"].marks, "statistics": data.statistics}


def test_splits_are_disjoint_whole_and_sixty_twenty_twenty(make_data, random_sequences):
    for rule in ("rows", "shuffle"):
        data = make_data(random_sequences(n=50), split=rule)
        rows = [set(data.rows[name].tolist()) for name in ("train", "val", "test")]
        assert [len(r) for r in rows] == [30, 10, 10]
        assert set().union(*rows) == set(range(50))
    assert max(make_data(random_sequences(n=50)).rows["train"]) == 29


def test_published_split_stays_and_validation_comes_out_of_train(make_data, random_sequences):
    sequences = random_sequences(n=40)
    with pytest.raises(ConfigError, match="no published split"):
        make_data(sequences, split="published")
    sequences.split[:] = np.repeat([0, 2], [25, 15])
    data = make_data(sequences, split="published", val_fraction=0.2)
    assert sorted(data.rows["test"]) == list(range(25, 40))
    assert len(data.rows["val"]) == 5
    assert set(data.rows["val"]) | set(data.rows["train"]) == set(range(25))


def test_changing_test_sequences_changes_nothing_of_train(make_data, random_sequences):
    clean, poisoned = random_sequences(n=20), random_sequences(n=20)
    first = poisoned.offsets[16]
    poisoned.times[first:] = poisoned.times[first:] * 0.9
    poisoned.marks[first:] = 0
    before, after = _train(make_data(clean)), _train(make_data(poisoned))
    assert before["statistics"] == after["statistics"]
    assert np.array_equal(before["times"], after["times"])
    assert not np.array_equal(make_data(clean).splits["test"].times, make_data(poisoned).splits["test"].times)


def test_batches_hold_every_sequence_once_with_little_padding(make_data):
    sets = {"hawkes": generate("sin-fixed-n", 0, 400), "mimic": mimic_twin(0)[0], "reddit": reddit_twin(0)[0]}
    for name, sequences in sets.items():
        ties = "jitter" if sequences.grid else "refuse"
        data = make_data(sequences, batch_size=16, eval_batch_size=64, ties=ties)
        for split, batches in {"train": data.train_batches(3), "val": data.eval_batches("val")}.items():
            assert sorted(np.concatenate(batches)) == list(range(data.sizes[split])), name
            lengths = data.splits[split].lengths
            padded = sum(len(b) * lengths[b].max() for b in batches)
            assert 1 - lengths.sum() / padded < 0.15, (name, split)
            assert all(len(b) * lengths[b].max() <= 8192 or len(b) == 1 for b in batches)
        again, other = data.train_batches(3), data.train_batches(4)
        assert all(np.array_equal(a, b) for a, b in zip(again, data.train_batches(3), strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(again, other, strict=False))


def test_a_batch_is_what_a_loop_over_events_gives(make_data, random_sequences):
    data = make_data(random_sequences(n=30))
    part, rows = data.splits["train"], np.array([4, 0, 9])
    batch = data.batch("train", rows)
    expected = []
    for place, s in enumerate(rows):
        times = part.times[part.offsets[s] : part.offsets[s + 1]]
        marks = part.marks[part.offsets[s] : part.offsets[s + 1]]
        assert batch.times[place, : len(times)].numpy() == pytest.approx(times)
        assert int(batch.valid[place].sum()) == len(times)
        for i in range(1, len(times)):
            source = place * batch.times.shape[1] + i - 1
            expected.append((source, times[i] - times[i - 1], marks[i], place, i == len(times) - 1))
    found = zip(batch.source, batch.gap, batch.target, batch.row, batch.last, strict=True)
    assert [tuple(v.item() for v in row) for row in found] == [pytest.approx(row) for row in expected]


def test_clock_of_a_sequence_starts_where_the_origin_says(make_data, random_sequences):
    sequences = random_sequences(n=20)
    window, first = make_data(sequences, origin="window"), make_data(sequences, origin="first")
    rows = np.arange(3)
    assert (first.batch("train", rows).times[:, 0] == 0).all()
    assert (window.batch("train", rows).times[:, 0] > 0).all()
    assert first.batch("train", rows).gap.numpy() == pytest.approx(window.batch("train", rows).gap.numpy())


def test_survival_can_be_left_out(make_data, random_sequences):
    sequences = random_sequences(n=20)
    with_tails, without = make_data(sequences), make_data(sequences, survival=False)
    assert len(with_tails.batch("test", np.arange(4)).tail) == 4
    assert len(without.batch("test", np.arange(4)).tail) == 0
    assert (with_tails.windowed, without.windowed) == (True, False)


def test_options_that_cannot_be_are_named(make_data, random_sequences, make_sequences):
    for option, value in (("split", "random"), ("ties", "drop"), ("origin", "zero"), ("unit", "fortnights")):
        with pytest.raises(ConfigError, match=f"task.data.{option}"):
            make_data(random_sequences(n=20), **{option: value})
    with pytest.raises(ConfigError, match=r"task\.data\.max_tokens"):
        make_data(random_sequences(n=20), max_tokens=0)
    with pytest.raises(ConfigError, match="leaves no sequence for train"):
        make_data(random_sequences(n=2))
    with pytest.raises(ConfigError, match="fold=1"):
        make_data(random_sequences(n=20), fold=1)
    with pytest.raises(DatasetError, match="no training sequence has two events"):
        make_data(make_sequences([[1.0]] * 10))
    with pytest.raises(DatasetError, match="all 6 training gaps are 1"):
        make_data(make_sequences([[1.0, 2.0]] * 10))


def test_twins_have_the_published_sizes():
    sequences, folds = mimic_twin(0)
    assert (sequences.n_sequences, len(sequences.times), sequences.n_marks) == (650, 2419, 75)
    assert folds.shape == (5, 650)
    for fold in folds:
        assert np.bincount(fold).tolist() == [527, 58, 65]
    assert len({tuple(np.flatnonzero(f == 2)) for f in folds}) == 5
    gaps = sequences.gaps()
    weeks = gaps[np.isfinite(gaps)] * 52
    assert np.abs(weeks - np.round(weeks)).max() < 1e-9
    repeats = sequences.marks[1:][np.isfinite(gaps)[1:]] == sequences.marks[:-1][np.isfinite(gaps)[1:]]
    assert 0.8 < repeats.mean() < 0.9
    reddit, none = reddit_twin(0)
    assert none is None
    assert (reddit.n_sequences, len(reddit.times), reddit.n_marks) == (10000, 672447, 984)


def test_folds_choose_the_split(make_data):
    sequences, folds = mimic_twin(0)
    data = make_data(sequences, folds=folds, fold=3, split="published", ties="jitter")
    assert {name: len(rows) for name, rows in data.rows.items()} == {"train": 527, "val": 58, "test": 65}
    assert sorted(data.rows["test"]) == np.flatnonzero(folds[3] == 2).tolist()
    with pytest.raises(ConfigError, match="folds 0 to 4"):
        make_data(sequences, folds=folds, fold=5, ties="jitter")
