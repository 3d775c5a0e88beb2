"""Surrogates: the schema, the rules of rolling out, the same bytes for the same seed, and all the ways to fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from tasks.errors import ConfigError, DatasetError, DatasetUnavailable, UnknownDataset
from tasks.rl import surrogate, writing
from tasks.rl.d4rl import read_episodes, read_metadata
from tasks.rl.environment import EnvironmentFailed, LockStep
from tasks.rl.generate import measure_skill, roll_out_steps
from tasks.rl.policies import Mixture, load_own
from tasks.rl.robots import ROBOTS, normalized_score
from tasks.rl.surrogate import WEIGHTS, recipe, surrogate_file
from tasks.suite.atomic import WriteError

HOPPER = ROBOTS["hopper"]
D4RL_KEYS = {"observations", "actions", "next_observations", "rewards", "terminals", "timeouts"}
D4RL_KEYS |= {"infos/action_log_probs", "infos/qpos", "infos/qvel", "metadata/algorithm", "metadata/iteration"}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A data root without anything in it, and a cache of the test's own."""
    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A surrogate of each tier: robot names by tier."""
    folder = tmp_path_factory.mktemp("made")
    sets = {"random": 1000, "medium": 1200, "medium-replay": 1000, "medium-expert": 2400}
    return {tier: surrogate_file(f"hopper-{tier}", steps, 0, out=folder) for tier, steps in sets.items()}


def arrays_of(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_the_schema_is_d4rls_and_says_that_the_data_are_not(made):
    for tier, path in made.items():
        found = arrays_of(path)
        assert found.keys() >= D4RL_KEYS
        rows = len(found["rewards"])
        assert all(len(values) == rows for name, values in found.items() if "metadata" not in name)
        dtypes = {found[name].dtype for name in ("observations", "actions", "next_observations", "rewards")}
        assert dtypes == {np.dtype(np.float32)}
        assert found["terminals"].dtype == found["timeouts"].dtype == bool
        facts = read_metadata(path)
        assert facts["dataset"] == f"hopper-{tier}-surrogate"
        assert "not the D4RL data" in facts["note"]
        assert (facts["source"], facts["seed"], facts["steps"], facts["env_id"]) == ("own", 0, rows, "Hopper-v4")
        assert "surrogate" in path.name
        episodes = read_episodes(path, HOPPER)
        assert facts["skill/return_mean"] == pytest.approx(episodes.returns.mean(), rel=1e-5)
        assert facts["skill/episodes"] == len(episodes)


def test_steps_follow_one_another_and_episodes_end_where_the_simulator_ends_them(made):
    for path in made.values():
        found = arrays_of(path)
        ends = found["terminals"] | found["timeouts"]
        assert not (found["terminals"] & found["timeouts"]).any()
        going = np.flatnonzero(~ends[:-1])
        np.testing.assert_array_equal(found["next_observations"][going], found["observations"][going + 1])
        lengths = np.diff(np.concatenate([[0], np.flatnonzero(ends) + 1]))
        assert lengths.max() <= 1000
        timed_out = found["timeouts"][ends]
        assert (lengths[timed_out] == 1000).all()
        fallen = found["next_observations"][found["terminals"]]  # Hopper ends when it is low, or leans
        assert ((fallen[:, 0] < 0.7) | (np.abs(fallen[:, 1]) > 0.2) | (np.abs(fallen) > 100).any(axis=1)).all()


def test_replaying_the_actions_gives_the_rewards_back(made):
    """Set to the stored joint positions and velocities, the simulator gives what the file says."""
    found = arrays_of(made["medium"])
    simulator = LockStep(HOPPER, [0])
    simulator.reset()
    for row in (0, 100, 300):
        simulator.envs[0].unwrapped.set_state(*(found[f"infos/{part}"][row].astype(float) for part in ("qpos", "qvel")))
        observations, rewards, *_ = simulator.step(found["actions"][row : row + 1], np.array([0]))
        np.testing.assert_allclose(observations[0], found["next_observations"][row], atol=1e-3)
        assert rewards[0] == pytest.approx(found["rewards"][row], abs=1e-3)


def test_the_behaviour_mean_and_the_log_probabilities_are_the_policys(made):
    found = arrays_of(made["medium"])
    policy = load_own(WEIGHTS / "hopper-medium.npz", HOPPER).policies[0]
    expected = policy.expected_action(found["observations"])
    np.testing.assert_allclose(found["infos/behaviour_mean"], expected, atol=1e-5)
    inside = (np.abs(found["actions"]) < 1).all(axis=1)  # clipping loses what was drawn
    assert inside.sum() > 100
    std = np.exp(policy.log_std)
    z = (found["actions"] - policy.centre(found["observations"]))[inside] / std
    expected = (-0.5 * z**2 - policy.log_std - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    np.testing.assert_allclose(found["infos/action_log_probs"][inside], expected, atol=2e-3)


def test_two_parts_share_the_steps_and_a_replay_has_many_policies(made):
    both = arrays_of(made["medium-expert"])["infos/policy"]
    assert set(both) == {0, 1}
    assert abs(np.mean(both == 0) - 0.5) < 0.45  # up to one episode of each part
    assert len(set(arrays_of(made["medium-replay"])["infos/policy"])) > 3
    for tier in ("medium-expert", "medium-replay"):
        found = arrays_of(made[tier])
        inner = np.flatnonzero(np.diff(found["infos/policy"]))
        assert (found["terminals"] | found["timeouts"])[inner].all()  # one policy an episode


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path, made):
    again = surrogate_file("hopper-random", 1000, 0, out=tmp_path)
    assert again.read_bytes() == made["random"].read_bytes()
    other = surrogate_file("hopper-random", 1000, 1, out=tmp_path)
    assert not np.array_equal(arrays_of(other)["actions"][:20], arrays_of(again)["actions"][:20])


def test_short_episodes_are_no_more_frequent_than_they_should_be(made):
    """Episode k is k's, however many simulators there are: those that end first do not come first."""
    mixture = load_own(WEIGHTS / "hopper-random.npz", HOPPER)
    many, few = (roll_out_steps(HOPPER, mixture, steps, (3,)) for steps in (2500, 1000))
    assert sum(map(len, many)) == 2500
    for one, other in zip(many, few[:-1], strict=False):
        np.testing.assert_allclose(one.rewards, other.rewards, atol=1e-4)


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_every_robot_and_ants_zeros(robot, tmp_path):
    path = surrogate_file(f"{robot.name}-medium", 1000, 5, out=tmp_path)
    found = arrays_of(path)
    assert found["observations"].shape == found["next_observations"].shape == (1000, robot.observations)
    assert not found["observations"][:, robot.simulated :].any()
    assert read_episodes(path, robot).behaviour_mean is not None


def test_experts_are_better_than_untrained_networks():
    for name in ("hopper", "halfcheetah"):
        robot = ROBOTS[name]
        tiers = [load_own(WEIGHTS / f"{name}-{tier}.npz", robot) for tier in ("random", "expert")]
        random, expert = (normalized_score(robot, measure_skill(robot, mixture, 2, 7).mean) for mixture in tiers)
        assert expert > random + 15


def test_a_file_is_made_once_and_found_again(monkeypatch):
    path = surrogate_file("known/hopper-masked", 1000, 0)
    assert path.parent.name == "surrogates"
    assert path.name.startswith("hopper-medium-surrogate-own-1000-0-")
    monkeypatch.setattr(writing, "write_surrogate", None)
    assert surrogate_file("hopper-medium", 1000, 0) == path


def test_other_policies_make_another_file(monkeypatch, tmp_path):
    before = recipe("hopper-medium", 1000, 0).file_name
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    shutil.copy(WEIGHTS / "hopper-expert.npz", tmp_path / "weights" / "hopper-medium.npz")
    monkeypatch.setattr(surrogate, "WEIGHTS", tmp_path / "weights")
    assert recipe("hopper-medium", 1000, 0).file_name != before
    monkeypatch.setattr(surrogate, "GENERATOR_VERSION", 99)
    assert (
        len({recipe("hopper-expert".replace("expert", tier), 2000, 0).file_name for tier in ("medium", "random")}) == 2
    )


def test_a_damaged_file_in_the_cache_is_made_again_and_one_in_the_data_root_is_an_error(tmp_path, caplog):
    path = surrogate_file("hopper-random", 1000, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:500] + b"\xff" + whole[501:])
    assert surrogate_file("hopper-random", 1000, 0).read_bytes() == whole
    assert "it was altered; making it again" in caplog.text
    path.with_name(f"{path.name}.sha256").unlink()  # killed between the two
    assert surrogate_file("hopper-random", 1000, 0).read_bytes() == whole
    given = tmp_path / "data" / "surrogates"
    shutil.copytree(path.parent, given)
    assert surrogate_file("hopper-random", 1000, 0) == given / path.name
    (given / path.name).write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match=r"it was altered. Fix: delete .* python scripts/data.py surrogate hopper-r"):
        surrogate_file("hopper-random", 1000, 0)


def test_a_killed_generation_leaves_nothing_half_written(tmp_path):
    code = "from tasks.rl.surrogate import surrogate_file; surrogate_file('hopper-random', 200_000, 0)"
    job = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    folder = tmp_path / "cache" / "surrogates"
    while not (folder.is_dir() and list(folder.iterdir())) and job.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    job.kill()
    assert job.wait() < 0
    assert not list(folder.glob("*.hdf5"))
    assert read_episodes(surrogate_file("hopper-random", 1000, 0), HOPPER)


@pytest.mark.parametrize("when", ["rolling out", "writing", "reading back"])
def test_a_failure_leaves_nothing_half_written(when, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    def broken(*_, **__):
        raise EnvironmentFailed("Hopper-v4 with seed 1 failed")

    def unreadable(path, *_):
        raise DatasetError(path, "is damaged", "none")

    name, failure, error = {
        "rolling out": ("roll_out_steps", broken, EnvironmentFailed),
        "writing": ("_write_metadata", full, WriteError),
        "reading back": ("read_episodes", unreadable, DatasetError),
    }[when]
    monkeypatch.setattr(writing, name, failure)
    with pytest.raises(error):
        surrogate_file("hopper-random", 1000, 0)
    assert not [path for path in (tmp_path / "cache" / "surrogates").iterdir() if path.suffix != ".lock"]


def test_snapshots_of_the_data_root_are_asked_for():
    with pytest.raises(DatasetUnavailable, match=r"log_Hopper-v1_4.h5: these policies were not found. Fix: put https"):
        surrogate_file("hopper-medium", 1000, 0, "snapshots")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 999}, "surrogate.steps=999: must be a whole number, at least 1000"),
        ({"steps": 1500, "dataset": "hopper-medium-expert"}, "at least 2000: .* of each policy"),
        ({"seed": -1}, "surrogate.seed=-1: must be a whole number, at least 0"),
        ({"source": "d4rl"}, "surrogate.source='d4rl': choose one of own, snapshots"),
    ],
)
def test_options_that_cannot_be(change, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**{"dataset": "hopper-medium", "steps": 1000, "seed": 0, **change})


def test_unknown_dataset():
    with pytest.raises(UnknownDataset, match="did you mean hopper-medium"):
        recipe("hopper-medum", 1000, 0)


def test_mixtures_draw_policies_by_their_shares():
    single = load_own(WEIGHTS / "hopper-random.npz", HOPPER).policies[0]
    episodes = roll_out_steps(HOPPER, Mixture((single, single), (0, 1), (0.8, 0.2), ""), 1500, (0,))
    share = np.mean([episode.policy for episode in episodes])
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / len(episodes))
