"""A job's data from its config: D4RL's own file where it is, else a surrogate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.data import Resolved, resolve
from tasks.errors import DatasetError
from tasks.rl import surrogate
from tasks.rl.data import load
from tasks.suite.manifest import VariantEntry


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    for variable in ("AAREN_DATA", "AAREN_CACHE", "D4RL_DATASET_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))


@pytest.fixture
def cfg(job) -> Any:
    return lambda dataset, *more: job(f"dataset={dataset}", *more)


def test_an_official_file_is_trained_on_whole_for_the_sets_own_target(cfg, d4rl_arrays, d4rl_file):
    def official(lengths):
        path = d4rl_file(d4rl_arrays("ant", lengths, tail=5))
        entry = VariantEntry("official", "none stated", {}, statistics={"trajectories": 41})
        return Resolved("ant-medium", "rl", "official", {"trajectories": path}, {}, "data root", entry)

    data = load(cfg("ant-medium"), official([30] * 40))
    assert (len(data.episodes), data.held_out) == (40, None)
    assert (data.target_return, data.target_rule) == (3600, "the dataset's config")
    assert data.n_states == 111
    with pytest.raises(DatasetError, match=r"has 44 trajectories, and .* 41.*data\.py get ant-medium --force"):
        load(cfg("ant-medium"), official([30] * 43))


def test_a_surrogate_is_made_once_and_holds_episodes_out(cfg, monkeypatch):
    found = resolve("hopper-medium")
    assert (found.variant, found.label, found.source) == ("surrogate", "hopper-medium-surrogate", "aaren")
    data = load(cfg("hopper-medium"), found)
    assert data.held_out is not None
    assert data.held_out.behaviour_mean is not None
    assert (data.robot.name, data.n_states, data.target_rule) == (
        "hopper", 11, "the best return in the training episodes"
    )  # fmt: skip
    facts = data.facts()
    assert facts["metadata"]["dataset"] == "hopper-medium-surrogate"
    assert facts["metadata"]["env_id"] == "Hopper-v4"
    # the surrogate with velocities hidden is the same file, and is not made again
    monkeypatch.setattr(surrogate, "write_surrogate", None, raising=False)
    masked = load(cfg("known/hopper-masked"), resolve("known/hopper-masked"))
    assert masked.n_states == 5
    np.testing.assert_array_equal(masked.episodes.rewards, data.episodes.rewards)
    assert masked.facts()["file"] == facts["file"]


def test_a_surrogate_that_does_not_read_says_what_to_do(cfg, d4rl_arrays, d4rl_file, monkeypatch):
    path = d4rl_file(d4rl_arrays("walker2d", [30] * 10))
    monkeypatch.setattr(surrogate, "surrogate_file", lambda *args, **options: path)
    with pytest.raises(DatasetError, match=r"dimensions of halfcheetah or walker2d.*delete it: it is made anew"):
        load(cfg("hopper-medium"), resolve("hopper-medium"))
