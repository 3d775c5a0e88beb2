"""Training behaviour policies: snapshots that act as the trained policy does, going on after a cut, and the tiers."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest

from tasks.errors import ConfigError
from tasks.rl import packing
from tasks.rl.behaviour import SETTINGS, read_curve, train
from tasks.rl.packing import pack, read_snapshot
from tasks.rl.policies import load_own, policy_of
from tasks.rl.robots import ROBOTS

HOPPER = ROBOTS["hopper"]
TINY = replace(SETTINGS["hopper"], steps=256, n_envs=2, n_steps=32, batch_size=32, n_epochs=2)
needs_trainer = pytest.mark.skipif(
    importlib.util.find_spec("stable_baselines3") is None, reason="needs the extra behaviour"
)


def silent(_):
    """Reports nothing."""


@needs_trainer
def test_a_training_leaves_snapshots_and_goes_on_where_it_was_cut(tmp_path):
    lines = []
    train(HOPPER, tmp_path, TINY, 0, 64, lines.append, until=128)
    assert [line["steps"] for line in lines] == [0, 64, 128]
    train(HOPPER, tmp_path, TINY, 0, 64, lines.append)
    steps = [line["steps"] for line in read_curve(tmp_path / "curve.csv")]
    assert steps[:3] == [0, 64, 128]
    assert steps[-1] >= TINY.steps
    assert sorted(int(path.stem) for path in (tmp_path / "snapshots").iterdir()) == steps
    seconds = [line["cpu_seconds"] for line in read_curve(tmp_path / "curve.csv")]
    assert seconds == sorted(seconds)
    before = len(lines)
    train(HOPPER, tmp_path, TINY, 0, 64, lines.append)  # over: nothing more to do
    assert len(lines) == before
    paths = sorted((tmp_path / "snapshots").iterdir())
    first, last = read_snapshot(paths[0]), read_snapshot(paths[-1])
    assert not np.array_equal(first.weight1, last.weight1)
    with pytest.raises(ConfigError, match="holds another training"):
        train(HOPPER, tmp_path, TINY, 1, 64, silent)


@needs_trainer
def test_a_snapshot_acts_as_the_library_does(tmp_path, monkeypatch):
    """Against stable-baselines3's own prediction on its own standardised observations."""
    from stable_baselines3 import PPO

    seen = {}
    learn = PPO.learn

    def spy(self, *args, **kwargs):
        seen["model"] = self
        return learn(self, *args, **kwargs)

    monkeypatch.setattr(PPO, "learn", spy)
    train(HOPPER, tmp_path, TINY, 0, 64, silent)
    model = seen["model"]
    observations = np.random.default_rng(0).normal(0, 5, (6, 11)).astype(np.float32)
    expected, _ = model.predict(model.get_env().normalize_obs(observations), deterministic=True)
    policy = read_snapshot(sorted((tmp_path / "snapshots").iterdir())[-1])
    np.testing.assert_allclose(policy.centre(observations).clip(-1, 1), expected, atol=1e-5)
    np.testing.assert_allclose(policy.log_std, model.policy.log_std.detach().numpy())


def test_without_the_library_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ConfigError, match=r'is not installed: pip install "aaren\[behaviour\]"'):
        train(HOPPER, tmp_path, TINY, 0, 64, silent)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A training's folder: its snapshots push ever harder against falling over, or so its curve says."""
    monkeypatch.setattr(packing, "EPISODES", 3)
    rng = np.random.default_rng(0)
    shapes = {"weight0": (4, 11), "bias0": (4,), "weight1": (4, 4), "bias1": (4,), "weight2": (3, 4), "bias2": (3,)}
    (tmp_path / "snapshots").mkdir()
    lines = ["steps,return,length,episodes,cpu_seconds"]
    for index in range(4):
        arrays = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
        arrays |= {"mean": np.zeros(11), "std": np.ones(11), "clip": np.array(10.0), "log_std": np.full(3, -1.0)}
        arrays["bias2"] = np.full(3, 0.3 * index - 0.4)
        policy = policy_of(arrays)
        plain = {name: getattr(policy, name) for name in arrays}
        np.savez(tmp_path / "snapshots" / f"{index * 100:09d}.npz", **plain)
        lines.append(f"{index * 100},{'nan' if index == 0 else 10 * index},20,{100 if index else 0},{index}")
    (tmp_path / "curve.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_tiers_by_the_rules(work, tmp_path):
    out = tmp_path / "out"
    lines = [line.split(",") for line in pack(HOPPER, work, out)]
    measured = {tier: float(mean) for _, tier, _, mean, *_ in lines}
    assert list(measured) == ["random", "medium", "medium-replay", "expert"]
    assert measured["medium"] >= measured["expert"] / 2
    tiers = {tier: load_own(out / f"hopper-{tier}.npz", HOPPER) for tier in measured}
    assert tiers["random"].iterations == (0,)
    assert tiers["expert"].iterations[0] > 0  # the first has no curve
    medium = tiers["medium"].iterations[0]
    assert tiers["medium-replay"].iterations == tuple(range(0, medium + 1, 100))
    pack(HOPPER, work, tmp_path / "again")
    for path in out.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_while_training_the_return_that_medium_must_reach_is_given(work, tmp_path):
    lines = pack(HOPPER, work, tmp_path / "out", medium_return=1.0)
    assert [line.split(",")[1] for line in lines] == ["random", "medium", "medium-replay"]
    with pytest.raises(ConfigError, match=r"--medium-return=10000.0: no snapshot of .* reaches it"):
        pack(HOPPER, work, tmp_path / "out", medium_return=1e4)


def test_a_folder_without_a_training(tmp_path):
    with pytest.raises(ConfigError, match="holds no snapshots; run train first"):
        pack(HOPPER, tmp_path, tmp_path / "out")
