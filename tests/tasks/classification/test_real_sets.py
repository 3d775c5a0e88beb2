"""The real sets that are at hand; JapaneseVowels ships inside sktime, so there is always one."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import sktime.datasets
from sktime.datasets import load_from_tsfile

from tasks.classification.data import PARSE_VERSION, ClassificationData, parse
from tasks.classification.ts import read_ts
from tasks.data import DatasetUnavailable, load_cached, resolve
from tasks.suite.manifest import load_manifest


def at_hand():
    names = []
    for name, entry in load_manifest().datasets.items():
        if entry.family == "classification" and entry.is_main:
            try:
                names.append(resolve(name, "official").dataset)
            except DatasetUnavailable:
                continue
    return names


REAL = at_hand()


def test_equals_sktimes_reader_on_japanese_vowels():
    for part in ("TRAIN", "TEST"):
        path = Path(sktime.datasets.__file__).parent / "data" / "JapaneseVowels" / f"JapaneseVowels_{part}.ts"
        ours = read_ts(path)
        theirs, labels = load_from_tsfile(str(path), return_data_type="nested_univ")
        assert [ours.classes[label] for label in ours.labels] == labels.tolist()
        start = 0
        for case, length in enumerate(ours.lengths):
            expected = np.column_stack([theirs.iloc[case, c].to_numpy() for c in range(theirs.shape[1])])
            assert np.array_equal(ours.values[start : start + length], expected.astype(np.float32))
            start += length
        assert start == len(ours.values)


def test_japanese_vowels_is_always_at_hand():
    assert "JapaneseVowels" in REAL


@pytest.mark.parametrize("name", REAL)
def test_real_set_agrees_with_the_manifest_and_splits(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path))
    resolved = resolve(name, "official")
    began = time.process_time()
    arrays = load_cached(resolved, parse, PARSE_VERSION)  # parse checks shape, classes and statistics
    assert time.process_time() - began < 20
    began = time.process_time()
    arrays = load_cached(resolved, parse, PARSE_VERSION)
    assert time.process_time() - began < 2
    data = ClassificationData(arrays, protocol="honest", batch_size=16, eval_batch_size=64, seed=0)
    train, val = data.cases["train"][1], data.cases["val"][1]
    assert not set(train) & set(val)
    assert len(train) + len(val) == resolved.entry.shape["train"]
    for cases in (train, val):  # Handwriting's smallest class has two cases: one on each side
        assert set(arrays["train_labels"][cases]) == set(range(resolved.entry.classes))
    assert abs(len(val) / len(arrays["train_labels"]) - 0.2) < 0.03
