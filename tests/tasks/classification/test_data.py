"""Checks against the manifest, the honest split and its scaler, and the base code's habit beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.classification.data import ClassificationData, parse
from tasks.classification.split import stratified_split
from tasks.errors import ConfigError, DatasetError
from tasks.suite.manifest import load_manifest


def make(arrays, protocol="honest", seed=0, batch_size=8):
    return ClassificationData(arrays, protocol=protocol, batch_size=batch_size, eval_batch_size=16, seed=seed)


def everything(data, split):
    return data.batch(split, np.arange(data.sizes[split]))


def stand_in(rng, n, steps, channels, names):
    """A set of the official form: `n` cases, every class present, one decimal place (short to write)."""
    labels = [names[i % len(names)] for i in range(n)]
    return [rng.normal(size=(steps, channels)).round(1) for _ in range(n)], labels


# The official forms of the five sets that a user brings. Cases are fewer than published but for
# SelfRegulationSCP2's TEST, so that all of it takes seconds; channels, steps and classes are the official ones.
STAND_INS = {
    "EthanolConcentration": (8, 8, ["E35", "E38", "E40", "E45"]),
    "FaceDetection": (6, 4, ["0", "1"]),
    "Heartbeat": (5, 4, ["normal", "abnormal"]),
    "PEMS-SF": (8, 7, [f"{k}.0" for k in range(1, 8)]),
    "SelfRegulationSCP2": (4, 180, ["negativity", "positivity"]),
}


@pytest.mark.parametrize("ending", ["ts", "arff"])
@pytest.mark.parametrize("name", STAND_INS)
def test_official_forms_load(name, ending, resolved_set, ts, arff):
    official = load_manifest().datasets[name].variants["official"]
    train_n, test_n, names = STAND_INS[name]
    test_n = min(test_n, 8) if ending == "arff" else test_n
    assert len(names) == official.classes
    shape = official.shape
    rng = np.random.default_rng(5)
    parts = [stand_in(rng, n, shape["length_max"], shape["channels"], names) for n in (train_n, test_n)]
    write = ts if ending == "ts" else arff
    texts = [write(cases, labels, names) for cases, labels in parts]
    facts = replace(official, shape={**shape, "train": train_n, "test": test_n})
    arrays = parse(resolved_set(*texts, facts, name=name, ending=ending))
    for part, (cases, labels) in zip(("train", "test"), parts, strict=True):
        assert np.allclose(arrays[f"{part}_values"], np.concatenate(cases), atol=1e-6)
        assert [arrays["classes"][label] for label in arrays[f"{part}_labels"]] == labels
        assert (arrays[f"{part}_lengths"] == shape["length_max"]).all()
    data = make(arrays)
    assert everything(data, "test").x.shape == (test_n, shape["length_max"], shape["channels"])


CLASSES = ["a", "b"]


def small(ts, n, seed=0, channels=2, steps=(4, 6), classes=CLASSES, **fields):
    rng = np.random.default_rng(seed)
    cases = [rng.normal(size=(steps[i % len(steps)], channels)) for i in range(n)]
    return ts(cases, [classes[i % len(classes)] for i in range(n)], classes, **fields)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train": 5}, "TRAIN.*number of cases: 6, where Heartbeat has 5"),
        ({"test": 5}, "TEST.*number of cases: 4, where Heartbeat has 5"),
        ({"channels": 3}, "TRAIN.*channels: 2, where Heartbeat has 3"),
        ({"length_max": 7}, "TRAIN.*longest series: 6, where Heartbeat has 7"),
        ({"length_min": 3}, "TRAIN.*shortest series: 4, where Heartbeat has 3"),
    ],
)
def test_a_wrong_shape_is_a_dataset_error(change, reason, resolved_set, ts, facts):
    entry = facts(6, 4, 2, 2)
    parse(resolved_set(small(ts, 6), small(ts, 4), entry))
    entry = replace(entry, shape={**entry.shape, **change})
    with pytest.raises(DatasetError, match=reason):
        parse(resolved_set(small(ts, 6), small(ts, 4), entry))


def test_wrong_classes_are_a_dataset_error(resolved_set, ts, facts):
    with pytest.raises(DatasetError, match="number of classes: 2, where Heartbeat has 3"):
        parse(resolved_set(small(ts, 6), small(ts, 4), facts(6, 4, 2, 3)))
    with pytest.raises(DatasetError, match="class names: a, b, where Heartbeat has x, y"):
        parse(resolved_set(small(ts, 6), small(ts, 4), facts(6, 4, 2, 2, labels=("x", "y"))))
    with pytest.raises(DatasetError, match=r"TEST.*classes declared: a, c, where Heartbeat has a, b"):
        parse(resolved_set(small(ts, 6), small(ts, 4, classes=["a", "c"]), facts(6, 4, 2, 2)))
    with pytest.raises(DatasetError, match=r"TEST.*channels: 3, where Heartbeat has 2"):
        parse(resolved_set(small(ts, 6), small(ts, 4, channels=3), facts(6, 4, 2, 2)))


def test_wrong_statistics_are_a_dataset_error(resolved_set, ts, facts):
    good = parse(resolved_set(small(ts, 6), small(ts, 4), facts(6, 4, 2, 2)))
    values = good["train_values"].astype(np.float64)
    truth = {"points": 30, "class_counts": [3, 3], "mean": values.mean(0).tolist(), "std": values.std(0).tolist()}
    parse(resolved_set(small(ts, 6), small(ts, 4), facts(6, 4, 2, 2, statistics={"train": truth})))
    for key, wrong in {"points": 31, "class_counts": [2, 4], "mean": [0.5, 0.5], "std": [2.0, 2.0]}.items():
        entry = facts(6, 4, 2, 2, statistics={"train": {**truth, key: wrong}})
        with pytest.raises(DatasetError, match=rf"TRAIN.*{key.split('_')[0]}"):
            parse(resolved_set(small(ts, 6), small(ts, 4), entry))


def test_classes_in_another_order_keep_their_names(resolved_set, ts, facts):
    arrays = parse(resolved_set(small(ts, 6), small(ts, 4, classes=["b", "a"]), facts(6, 4, 2, 2)))
    assert arrays["classes"].tolist() == ["a", "b"]
    assert arrays["test_labels"].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_split_is_stratified_disjoint_and_seeded(seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(6), [2, 3, 5, 10, 20, 41]))
    train, val = stratified_split(labels, seed)
    assert sorted([*train, *val]) == list(range(len(labels)))
    assert np.bincount(labels[val]).tolist() == [1, 1, 1, 2, 4, 8]
    again = stratified_split(labels, seed)
    assert np.array_equal(train, again[0])
    assert not np.array_equal(val, stratified_split(labels, seed + 1)[1])


def test_split_keeps_a_single_case_in_train():
    train, val = stratified_split(np.array([0, 1, 1, 1, 1, 1]), 0)
    assert 0 in train
    assert len(val) == 1


def test_scaler_is_fitted_on_the_training_split(toy):
    data = make(toy)
    batch = everything(data, "train")
    real = torch.cat([x[:n] for x, n in zip(batch.x, batch.lengths, strict=True)]).double()
    assert torch.allclose(real.mean(0), torch.zeros(3).double(), atol=1e-6)
    assert torch.allclose(real.std(0, unbiased=False), torch.ones(3).double(), atol=1e-6)
    whole = toy["train_values"].astype(np.float64)
    assert not np.allclose(np.asarray(data.scalers["train"].mean_), whole.mean(0), atol=1e-6)  # val plays no part


def poisoned(arrays):
    return {**arrays, "test_values": arrays["test_values"] * -7.0 + 1000.0}


def tensors(data, split):
    return everything(data, split)


def test_poisoned_test_changes_no_training_or_validation_tensor(toy):
    clean, dirty = make(toy), make(poisoned(toy))
    for split in ("train", "val"):
        for a, b in zip(everything(clean, split), everything(dirty, split), strict=True):
            assert torch.equal(a, b)
    assert float(everything(dirty, "test").x.abs().max()) > 100  # the poison is seen where it belongs


def test_the_base_codes_habit_fails_the_poison_test(toy):
    clean, dirty = make(toy, "paper_compat"), make(poisoned(toy), "paper_compat")
    assert not torch.allclose(everything(clean, "val").x, everything(dirty, "val").x, atol=0.5)
    # And its second habit hides the poison: TEST standardised by itself is as tame as ever.
    assert float(everything(dirty, "test").x.abs().max()) < 10


def test_paper_compat_validates_on_test_and_scales_each_part(toy):
    data = make(toy, "paper_compat")
    assert data.sizes == {"train": 40, "val": 23, "test": 23}
    for a, b in zip(everything(data, "val"), everything(data, "test"), strict=True):
        assert torch.equal(a, b)
    for split in ("train", "test"):
        batch = everything(data, split)
        real = torch.cat([x[:n] for x, n in zip(batch.x, batch.lengths, strict=True)])
        assert torch.allclose(real.mean(0), torch.zeros(3), atol=1e-5)


def test_batches_are_padded_with_zeros_and_cut_to_their_longest(toy):
    data = make(toy)
    shortest = int(np.argmin(toy["train_lengths"][data.cases["train"][1]]))
    batch = data.batch("train", np.array([shortest]))
    assert batch.x.shape[1] == int(batch.lengths[0]) < data.steps
    batch = everything(data, "train")
    for x, n in zip(batch.x, batch.lengths, strict=True):
        assert (x[n:] == 0).all()
        assert (x[:n] != 0).any()


def test_class_counts_and_reach_are_of_the_training_split(toy):
    data = make(toy)
    train = data.cases["train"][1]
    assert data.class_counts.tolist() == np.bincount(toy["train_labels"][train]).tolist()
    assert data.reached == toy["train_lengths"][train].max()


def test_bad_options(toy):
    with pytest.raises(ConfigError, match="protocol='paper'"):
        make(toy, "paper")
    one = {key: value[:1] if key.endswith(("lengths", "labels")) else value for key, value in toy.items()}
    one["train_values"] = toy["train_values"][: one["train_lengths"][0]]
    one["test_values"] = toy["test_values"][: one["test_lengths"][0]]
    with pytest.raises(ConfigError, match="a split is empty"):
        make(one)
