"""Behaviour policies: what they draw, what they expect to draw, and files that hold none."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tasks.errors import DatasetError
from tasks.rl.packing import as_npz
from tasks.rl.policies import NAMES, Mixture, load_own, load_snapshots, policy_of, snapshot_lengths
from tasks.rl.robots import ROBOTS
from tasks.rl.surrogate import WEIGHTS

HOPPER, ANT = ROBOTS["hopper"], ROBOTS["ant"]


def arrays(robot=HOPPER, seed=0, hidden=8):
    rng = np.random.default_rng(seed)
    shapes = {
        "weight0": (hidden, robot.simulated), "bias0": (hidden,), "weight1": (hidden, hidden), "bias1": (hidden,),
        "weight2": (robot.actions, hidden), "bias2": (robot.actions,), "log_std": (robot.actions,),
        "mean": (robot.simulated,),
    }  # fmt: skip
    drawn = {name: rng.normal(0, 0.7, shape) for name, shape in shapes.items()}
    return {**drawn, "std": rng.uniform(0.5, 2, robot.simulated), "clip": np.array(3.0)}


def test_the_expected_action_is_the_mean_of_drawn_actions():
    policy = policy_of(arrays())
    observations = np.random.default_rng(1).normal(0, 3, (5, 11)).astype(np.float32)
    rng = np.random.default_rng(2)
    drawn = policy.act(np.repeat(observations[:, None], 40_000, axis=1), rng)
    assert np.abs(drawn).max() == 1
    error = drawn.std(axis=1) / np.sqrt(drawn.shape[1])
    assert (np.abs(drawn.mean(axis=1) - policy.expected_action(observations)) < 4.5 * error + 1e-6).all()


def test_the_expected_action_at_the_extremes():
    """Nearly no noise: the clipped mean. Endless noise: an even chance of both ends."""
    observations = np.random.default_rng(1).normal(0, 3, (20, 11)).astype(np.float32)
    quiet = policy_of({**arrays(), "log_std": np.full(3, -12.0)})
    np.testing.assert_allclose(quiet.expected_action(observations), quiet.centre(observations).clip(-1, 1), atol=1e-5)
    loud = policy_of({**arrays(), "log_std": np.full(3, 12.0)})
    np.testing.assert_allclose(loud.expected_action(observations), 0, atol=1e-4)


def test_the_network_against_its_definition():
    made = {name: array.astype(np.float32) for name, array in arrays().items()}
    observation = np.linspace(-40, 40, 11, dtype=np.float32)
    hidden = np.clip((observation - made["mean"]) / made["std"], -3, 3)
    for layer in (0, 1):
        hidden = np.tanh(made[f"weight{layer}"] @ hidden + made[f"bias{layer}"])
    expected = made["weight2"] @ hidden + made["bias2"]
    np.testing.assert_allclose(policy_of(made).centre(observation), expected, rtol=1e-5)


def test_ant_looks_at_the_simulated_dimensions_only():
    policy = policy_of(arrays(ANT))
    wide = np.random.default_rng(0).normal(size=(4, 111)).astype(np.float32)
    np.testing.assert_array_equal(policy.centre(wide), policy.centre(wide[:, :27]))


def test_what_is_packed_is_what_is_loaded(tmp_path):
    policies = tuple(policy_of(arrays(seed=seed)) for seed in (0, 1))
    (tmp_path / "x.npz").write_bytes(as_npz(Mixture(policies, (0, 40), (0.75, 0.25), "PPO")))
    loaded = load_own(tmp_path / "x.npz", HOPPER)
    assert (loaded.iterations, loaded.shares, loaded.algorithm) == ((0, 40), (0.75, 0.25), "PPO")
    for before, after in zip(policies, loaded.policies, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert (tmp_path / "x.npz").read_bytes() == as_npz(loaded)


def test_unusable_files_of_policies(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(DatasetError, match=r"x\.npz: is not a readable file of policies .* Fix: reinstall"):
        load_own(path, HOPPER)
    whole = as_npz(Mixture((policy_of(arrays()),), (0,), (1.0,), "PPO"))
    for content in (b"", b"<html>", whole[: len(whole) // 2], whole[:200] + b"\0" * 40 + whole[240:]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="is not a readable file of policies"):
            load_own(path, HOPPER)
    path.write_bytes(whole)
    with pytest.raises(DatasetError, match="11 observations and 3 actions, not 27 observations and 8 actions as ant"):
        load_own(path, ANT)
    path.write_bytes(as_npz(Mixture((policy_of({**arrays(), "bias1": np.full(8, np.nan)}),), (0,), (1.0,), "PPO")))
    with pytest.raises(DatasetError, match="weights that are not finite"):
        load_own(path, HOPPER)
    np.savez(path, **{name: np.array(None, dtype=object) for name in NAMES})  # a pickle is refused, not run
    with pytest.raises(DatasetError, match="is not a readable file of policies"):
        load_own(path, HOPPER)


def snapshot_log(path, robot, made):
    """A log in the layout of "openai/imitation", iterations 0 and 20; Ant's policies look at all 111 dimensions."""
    with h5py.File(path, "w") as file:
        for iteration in (0, 20):
            group = file.create_group(f"snapshots/iter{iteration:07d}/GaussianPolicy")
            wide = np.zeros((3, robot.observations))
            wide[0, : robot.simulated], wide[1, : robot.simulated] = made["mean"], made["std"] ** 2 + made["mean"] ** 2
            group["obsnorm/Standardizer/mean_1_D"], group["obsnorm/Standardizer/meansq_1_D"] = wide[:1], wide[1:2]
            group["logstdevs_1_Da"] = made["log_std"][None]
            first = np.zeros((robot.observations, 8))
            first[: robot.simulated] = made["weight0"].T
            layers = ("hidden/FeedforwardNet/layer_0", "hidden/FeedforwardNet/layer_2", "out")
            for index, (layer, weight) in enumerate(
                zip(layers, (first, made["weight1"].T, made["weight2"].T), strict=True)
            ):
                group[f"{layer}/AffineLayer/W"] = weight
                group[f"{layer}/AffineLayer/b"] = made[f"bias{index}"][None]
        table = np.zeros(21, [("iter", "i4"), ("avglen", "i4")])
        table["iter"], table["avglen"] = np.arange(21), 100 + np.arange(21)
        file["log"] = table


@pytest.mark.parametrize("robot", [HOPPER, ANT], ids=lambda robot: robot.name)
def test_snapshots_of_the_data_root(tmp_path, robot):
    path, made = tmp_path / "log.h5", arrays(robot)
    snapshot_log(path, robot, made)
    first, second = load_snapshots(path, robot, (0, 20))
    observations = np.random.default_rng(0).normal(size=(4, robot.observations)).astype(np.float32)
    unbounded = policy_of({**made, "clip": np.inf})
    np.testing.assert_allclose(first.centre(observations), unbounded.centre(observations), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first.weight1, second.weight1)
    np.testing.assert_array_equal(snapshot_lengths(path, (0, 20)), [100, 120])
    with pytest.raises(DatasetError, match="is not a readable log of policies"):
        load_snapshots(path, robot, (40,))
    with pytest.raises(DatasetError, match="is not a readable log of policies"):
        snapshot_lengths(path, (40,))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DatasetError, match="is not a readable log of policies"):
        load_snapshots(path, robot, (0,))


def test_every_committed_file_of_policies_loads():
    files = sorted(WEIGHTS.glob("*.npz"))
    assert len(files) == 16
    assert sum(path.stat().st_size for path in files) < 5e6
    for path in files:
        robot, _, tier = path.stem.partition("-")
        mixture = load_own(path, ROBOTS[robot])
        assert len(mixture.policies) == len(mixture.shares) == len(mixture.iterations)
        assert (len(mixture.policies) > 1) == (tier == "medium-replay")
        assert sum(mixture.shares) == pytest.approx(1)
        assert list(mixture.iterations) == sorted(mixture.iterations)
