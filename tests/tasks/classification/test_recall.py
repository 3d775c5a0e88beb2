"""The generated sets: their answers by the rule in words, the same every time, and what runs on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.classification import load_data, recall
from tasks.data import resolve
from tasks.errors import ConfigError
from tasks.requests import Wanted, requests
from tasks.suite.identity import run_id

CONF = Path(__file__).parents[3] / "conf"
NAMES = {"recall": recall.KEYS, "selective-copy": recall.MARKS}  # and how many channels come before the values


def options(name: str, version: int = recall.VERSION) -> dict:
    return {"generator": name, "generator_version": version}


def steps_of(arrays: dict[str, np.ndarray], part: str) -> np.ndarray:
    cases = len(arrays[f"{part}_labels"])
    return arrays[f"{part}_values"].reshape(cases, -1, arrays[f"{part}_values"].shape[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_the_value_beside_what_is_asked(name):
    arrays, split = recall.generate(options(name), name), NAMES[name]
    for part, cases in recall.CASES.items():
        x, labels = steps_of(arrays, part), arrays[f"{part}_labels"]
        keys, values = x[..., :split], x[..., split:]
        assert len(x) == cases
        assert (keys[:, -1].sum(-1) == 1).all()  # a question, and what is asked stood in the series once
        assert not values[:, -1].any()
        matches = (keys[:, :-1] * keys[:, -1:]).sum(-1)
        assert (matches.sum(1) == 1).all()
        assert np.array_equal((matches[..., None] * values[:, :-1]).sum(1).argmax(-1), labels)
        assert np.bincount(labels).min() > 0.8 * cases / recall.CLASSES  # no class to guess
        for fixed in (0, x.shape[1] - 2):  # nor a place: one step of KEYS holds the answer, another has it by chance
            assert (values[:, fixed].argmax(-1) == labels).mean() < 0.3


@pytest.mark.parametrize(("name", "share"), [("recall", 0.327), ("selective-copy", 0.410)])
def test_what_a_model_can_score_without_knowing_which(name, share):
    x, split = steps_of(recall.generate(options(name), name), "test"), NAMES[name]
    counts = (x[..., :split].any(-1, keepdims=True) * x[..., split:]).sum(1)
    assert (counts.max(-1) / counts.sum(-1)).mean() == pytest.approx(share, abs=1e-3)


def test_marks_are_numbered_in_their_order_and_the_rest_has_none():
    marks = steps_of(recall.generate(options("selective-copy"), ""), "test")[:, :-1, : recall.MARKS]
    places = marks.argmax(1)  # [cases, MARKS]
    assert (np.diff(places) > 0).all()
    assert (marks.sum((1, 2)) == recall.MARKS).all()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_set_every_time_and_train_is_not_test(name):
    one, other = (recall.generate(options(name), name) for _ in range(2))
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert not np.array_equal(one["train_values"][:1000], one["test_values"][:1000])


@pytest.mark.parametrize(
    ("name", "version", "option"), [("recal", 1, "generator"), ("recall", 99, "generator_version")]
)
def test_a_generator_that_there_is_not_is_refused(name, version, option):
    with pytest.raises(ConfigError, match=rf"task\.data\.{option}="):
        recall.generate(options(name, version), "known/recall")


@pytest.mark.parametrize("name", NAMES)
def test_reproduce_runs_the_four_and_the_version_is_part_of_what_they_are(name):
    dataset = f"known/{name}"
    jobs, broken = requests(Wanted(datasets=(dataset,)), CONF)
    assert not broken
    models = [job.cfg["model"]["name"] for job in jobs]
    assert models == ["aaren", "transformer", "aaren_queries", "mean", "majority"]
    cfg = jobs[0].cfg
    other = {**cfg, "task": {**cfg["task"], "data": {**cfg["task"]["data"], "generator_version": 2}}}
    assert run_id(cfg, dataset, {}) != run_id(other, dataset, {})
    resolved = resolve(dataset)
    data = load_data(cfg, resolved)
    shape = resolved.entry.shape
    assert (data.steps, data.channels, data.best_accuracy) == (shape["length_max"], shape["channels"], 1.0)
    assert sum(data.sizes.values()) == shape["train"] + shape["test"]
