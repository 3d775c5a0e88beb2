"""Data of a job: what is held out, what a batch depends on, and which options are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tasks.batches import RoundSampler
from tasks.errors import ConfigError, DatasetError
from tasks.rl.data import STEPS_PER_EPOCH, EvalEpisodes, RLData, held_out
from tasks.rl.episodes import Episodes
from tasks.rl.robots import ROBOTS
from tasks.rl.windows import Windows

OPTIONS = {
    "batch_size": 8, "eval_batch_size": 16, "context": 20, "sampling": "uniform", "scale": 1000, "observe": "all"
}  # fmt: skip
ROLLOUT = {"val_episodes": 2, "test_episodes": 3, "target_return": None}


def invented(lengths: list[int], robot: str = "hopper", seed: int = 0) -> Episodes:
    rng, facts = np.random.default_rng(seed), ROBOTS[robot]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    observations = rng.normal(2, 3, (starts[-1], facts.simulated)).astype(np.float32)
    actions, means = (rng.uniform(-1, 1, (starts[-1], facts.actions)).astype(np.float32) for _ in range(2))
    return Episodes(observations, actions, rng.normal(1, 1, starts[-1]).astype(np.float32), starts, means)


def make(episodes: Episodes, robot: str = "hopper", *, hold_out: bool = True, seed: int = 0, **changes: Any) -> RLData:
    options = {key: changes.get(key, value) for key, value in OPTIONS.items()}
    rollout = {key: changes.get(key, value) for key, value in ROLLOUT.items()}
    return RLData(
        episodes,
        ROBOTS[robot],
        hold_out=hold_out,
        options=options,
        rollout=rollout,
        target_return=changes.get("own_target"),
        seed=seed,
        path="/some/where/set.hdf5",
    )


def train_tensors(data: RLData, steps: int = 250) -> list[torch.Tensor]:
    data.steps_per_round = steps
    return [values for batch in data.train_dataloader() for values in batch if values is not None]


@pytest.mark.parametrize("n", [3, 4, 9, 10, 19, 20, 21, 30, 100, 137])
def test_train_val_and_test_episodes_are_disjoint(n):
    val, test = held_out(n)
    assert len(val) >= 1
    assert len(test) >= 1
    assert not set(val) & set(test)
    kept = set(range(n)) - set(val) - set(test)
    assert kept
    if n >= 20:
        assert sorted([*val, *test]) == [i for i in range(n) if i % 10 == 9]
    episodes = invented([5 + i % 7 for i in range(n)])
    data = make(episodes, context=4)
    assert len(data.episodes) == len(kept)
    assert data.held_out is not None
    assert len(data.held_out) == n - len(kept)
    steps = {split: {row.tobytes() for row in data.cutters[split].episodes.observations} for split in data.cutters}
    assert len(set.union(*steps.values())) == sum(map(len, steps.values())) == len(episodes.rewards)


def test_no_held_out_value_reaches_a_training_tensor():
    lengths = [30 + i % 11 for i in range(40)]
    clean, poisoned = invented(lengths), invented(lengths)
    held = np.isin(np.repeat(np.arange(40), lengths), np.concatenate(held_out(40)))
    for values in (poisoned.observations, poisoned.actions, poisoned.rewards, poisoned.behaviour_mean):
        values[held] = 1e30
    first, second = make(clean), make(poisoned)
    np.testing.assert_array_equal(first.state_mean, second.state_mean)
    np.testing.assert_array_equal(first.state_std, second.state_std)
    assert first.target_return == second.target_return
    for ours, theirs in zip(train_tensors(first), train_tensors(second), strict=True):
        assert torch.equal(ours, theirs)
    poisoned.observations[~held] += 1  # and a training value does
    assert not np.array_equal(make(poisoned).state_mean, first.state_mean)


def test_a_batch_depends_on_seed_and_step_alone():
    data = make(invented([50] * 30))
    data.steps_per_round = 70
    straight = list(RoundSampler(data)) + list(_round(data, 1)) + list(_round(data, 2))
    assert len(straight) == 210 > 2 * STEPS_PER_EPOCH
    again = [RoundSampler(make(invented([50] * 30)))._at(step) for step in (209, 0, 150, 99, 100)]
    for step, batch in zip((209, 0, 150, 99, 100), again, strict=True):
        np.testing.assert_array_equal(batch, straight[step])
    assert len({batch.tobytes() for batch in straight}) == 210
    assert not np.array_equal(make(invented([50] * 30), seed=1).train_batches(0)[0], straight[0])
    assert data.steps_per_epoch == STEPS_PER_EPOCH


def _round(data, number):
    sampler = RoundSampler(data)
    sampler.set_epoch(number)
    return sampler


def test_three_short_episodes_serve_a_batch_of_64():
    data = make(invented([3, 7, 12]), batch_size=64)
    window = data.batch("train", data.train_batches(0)[0])
    assert isinstance(window, Windows)
    assert window.states.shape == (64, 20, 11)
    assert window.valid.sum(1).tolist() == [len(data.episodes.rewards)] * 64
    assert torch.isfinite(window.states).all()


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_episodes_to_hold_any_out(n):
    with pytest.raises(DatasetError, match=rf"{n} complete episodes, and three.*raise task\.data\.surrogate\.steps"):
        make(invented([30] * n))
    data = make(invented([30] * n), hold_out=False)
    assert data.held_out is None
    assert len(data.episodes) == n


def test_evaluation_scores_every_held_out_step_once_whatever_the_batch():
    episodes = invented([35 + i % 9 for i in range(60)])
    sums = []
    for size in (1, 7, 32, 10_000):
        data = make(episodes, eval_batch_size=size)
        batches = list(data.test_dataloader())
        assert isinstance(batches[0], EvalEpisodes)
        assert batches[0].seeds.tolist() == [2_000_000, 2_000_001, 2_000_002]
        assert all(isinstance(batch, Windows) and len(batch.valid) <= size for batch in batches[1:])
        assert sum(int(batch.valid.sum()) for batch in batches[1:]) == len(data.cutters["test"].episodes.rewards)
        sums.append(sum(float(batch.actions.double().square().sum()) for batch in batches[1:]))
    np.testing.assert_allclose(sums, sums[0], rtol=1e-12)
    assert sums[0] == pytest.approx(float((data.cutters["test"].episodes.actions.astype(float) ** 2).sum()))


def test_val_and_test_roll_out_from_seeds_of_their_own():
    data = make(invented([30] * 20), val_episodes=50, test_episodes=100)
    seeds = [set(next(iter(loader)).seeds.tolist()) for loader in (data.val_dataloader(), data.test_dataloader())]
    assert [len(split) for split in seeds] == [50, 100]
    assert not seeds[0] & seeds[1]
    without = make(invented([30] * 20), val_episodes=0)
    assert all(isinstance(batch, Windows) for batch in without.val_dataloader())
    official = make(invented([30] * 20), hold_out=False)
    assert [type(batch) for batch in official.test_dataloader()] == [EvalEpisodes]
    least = make(invented([30] * 20), hold_out=False, val_episodes=0)  # else the split would have no item at all
    assert next(iter(least.val_dataloader())).seeds.tolist() == [1_000_000]


def test_ants_missing_dimensions_are_zero_for_the_model():
    data = make(invented([40] * 10, "ant"), "ant")
    window = data.batch("train", data.train_batches(0)[0])
    assert isinstance(window, Windows)
    assert data.n_states == window.states.shape[2] == 111
    assert window.states[..., :27].any()
    assert not window.states[..., 27:].any()


@pytest.mark.parametrize(("robot", "width"), [("hopper", 5), ("walker2d", 8)])
def test_hidden_velocities_are_not_there(robot, width):
    episodes = invented([40] * 10, robot)
    data, whole = make(episodes, robot, observe="positions"), make(episodes, robot)
    first = data.train_batches(0)[0]
    assert data.n_states == len(data.state_mean) == width
    seen, all_seen = data.batch("train", first), whole.batch("train", first)
    assert isinstance(seen, Windows)
    assert isinstance(all_seen, Windows)
    assert torch.equal(seen.states, all_seen.states[..., :width])


def test_the_target_is_by_rule_and_says_so():
    episodes = invented([30 + i for i in range(20)])
    best = make(episodes)
    assert best.target_return == best.episodes.returns.max()
    assert best.target_rule == "the best return in the training episodes"
    own = make(episodes, hold_out=False, own_target=3600)
    assert (own.target_return, own.target_rule) == (3600, "the dataset's config")
    asked = make(episodes, own_target=3600, target_return=12.5)
    assert (asked.target_return, asked.target_rule) == (12.5, "task.rollout.target_return")


def test_facts_are_plain_json_and_name_no_folder():
    facts = make(invented([30] * 20)).facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["file"] == "set.hdf5"
    assert (facts["episodes"], facts["steps"], facts["held_out_episodes"]) == (20, 600, 2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sampling", "even"), ("observe", "velocities"), ("context", 0), ("context", 2.5), ("scale", 0),
        ("scale", float("inf")), ("val_episodes", -1), ("test_episodes", True), ("batch_size", 0),
        ("target_return", float("nan")),
    ],
)  # fmt: skip
def test_options_that_cannot_be(option, value):
    with pytest.raises(ConfigError, match=option):
        make(invented([30] * 20), **{option: value})
