"""Environments in lock-step against a plain gymnasium environment, and what happens when one breaks."""

from __future__ import annotations

import sys
import warnings

import gymnasium
import numpy as np
import pytest

from tasks.rl import environment
from tasks.rl.environment import EnvironmentFailed, LockStep, make_env
from tasks.rl.robots import ROBOTS


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_lock_step_equals_one_plain_environment_at_a_time(robot):
    actions = np.random.default_rng(0).uniform(-1, 1, (25, 3, robot.actions))
    together = LockStep(robot, [7, 8, 9])
    starts = together.reset()
    rows = [together.step(action, np.arange(3)) for action in actions]
    assert (rows[0][0].dtype, rows[0][1].dtype) == (np.float32, np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plain = gymnasium.make(robot.env_id)
    observation, _ = plain.reset(seed=8)
    assert observation.shape == (robot.simulated,)
    np.testing.assert_array_equal(starts[1, : robot.simulated], observation.astype(np.float32))
    for action, (observations, rewards, terminated, truncated) in zip(actions, rows, strict=True):
        observation, reward, *ended, _ = plain.step(action[1])
        np.testing.assert_array_equal(observations[1, : robot.simulated], observation.astype(np.float32))
        assert (rewards[1], terminated[1], truncated[1]) == (reward, *ended)
        assert not observations[:, robot.simulated :].any()
        if ended[0]:
            break
    plain.close()
    together.close()


def test_an_environment_steps_as_it_would_alone():
    """A finished episode leaves the batch; the others go on as if it had never been there."""
    robot = ROBOTS["hopper"]
    three, alone = LockStep(robot, [1, 2, 3]), LockStep(robot, [3])
    three.reset()
    first = alone.reset()
    action = np.full((1, 3), 0.1)
    three.step(np.zeros((1, 3)), np.array([0]))
    for _ in range(5):
        both = three.step(np.concatenate([-action, action]), np.array([1, 2]))
        single = alone.step(action, np.array([0]))
        np.testing.assert_array_equal(both[0][1], single[0][0])
        assert both[1][1] == single[1][0]
    np.testing.assert_array_equal(three.restart(1, 3), first[0])
    positions, velocities = three.configuration(np.array([1]))
    assert (positions.shape, velocities.shape) == ((1, 6), (1, 6))


def test_an_episode_is_cut_after_a_thousand_steps():
    robot = ROBOTS["halfcheetah"]
    cheetah = LockStep(robot, [0])
    cheetah.reset()
    ends = [cheetah.step(np.zeros((1, 6)), np.array([0]))[2:] for _ in range(robot.max_steps)]
    assert [bool(truncated[0]) for _, truncated in ends] == [False] * 999 + [True]
    assert not any(terminated[0] for terminated, _ in ends)


def test_making_an_environment_warns_of_nothing_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("walker2d", "halfcheetah", "hopper", "ant"):  # MuJoCo tells of Walker2d's model at the next one
            make_env(ROBOTS[name]).close()
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_reward_that_is_not_a_number_names_environment_seed_and_step():
    lock_step = LockStep(ROBOTS["hopper"], [4, 5])
    lock_step.reset()
    lock_step.step(np.zeros((2, 3)), np.arange(2))
    inner = lock_step.envs[1].unwrapped
    step = inner.step
    inner.step = lambda action: (step(action)[0], float("nan"), False, False, {})
    with pytest.raises(EnvironmentFailed, match="Hopper-v4 with seed 5 failed at step 2: the reward or the observ"):
        lock_step.step(np.zeros((2, 3)), np.arange(2))


def test_an_environment_that_raises_says_which_and_why():
    lock_step = LockStep(ROBOTS["hopper"], [4])
    lock_step.reset()
    with pytest.raises(EnvironmentFailed, match=r"Hopper-v4 with seed 4 failed at step 1: ValueError: .*[Dd]imension"):
        lock_step.step(np.zeros((1, 5)), np.array([0]))


def test_missing_simulator_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(EnvironmentFailed, match=r"Hopper-v4 cannot be made .* pip install .gymnasium\[mujoco\]"):
        environment.make_env(ROBOTS["hopper"])


def test_versions_are_those_installed():
    versions = LockStep(ROBOTS["ant"], [0]).versions()
    assert versions["env_id"] == "Ant-v4"
    assert versions["gymnasium"] == gymnasium.__version__
