"""Jobs as users start them: composed from the shipped config tree, run in this process. And files of D4RL's shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tasks.rl.d4rl import RESET_HEIGHT
from tasks.rl.robots import ROBOTS

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """The plain config that `scripts/train.py` would run with these overrides."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
    assert isinstance(cfg, dict)
    return cfg


@pytest.fixture
def job(tmp_path):
    """`job("dataset=...", ...)`: a smoke job's config with its own runs folder and no logger."""

    def make(*overrides: str) -> dict[str, Any]:
        fixed = [f"runs_dir={tmp_path / 'runs'}", "logger=none", "progress=none", "profile=smoke"]
        return composed(*fixed, *overrides)

    return make


def d4rl_shaped(
    robot: str, lengths: list[int], *, tail: int = 0, terminal: bool = True, seed: int = 0, dtype: Any = np.float32
) -> dict[str, np.ndarray]:
    """Random episodes of these lengths that begin at the robot's height, then an unfinished one of `tail` steps.

    Every other episode ends by a timeout, all of them where `terminal` is False.
    """
    facts, rng = ROBOTS[robot], np.random.default_rng(seed)
    rows = sum(lengths) + tail
    observations = rng.normal(size=(rows, facts.observations)).astype(dtype)
    observations[:, facts.simulated :] = 0
    starts = np.cumsum([0, *lengths])
    observations[starts[starts < rows], 0] = RESET_HEIGHT[robot][0]
    ends = {"terminals": np.zeros(rows, bool), "timeouts": np.zeros(rows, bool)}
    for index, end in enumerate(starts[1:] - 1):
        ends["terminals" if terminal and index % 2 == 0 else "timeouts"][end] = True
    actions = rng.uniform(-1, 1, (rows, facts.actions)).astype(dtype)
    rewards = rng.normal(1, 1, rows).astype(dtype)
    return {"observations": observations, "actions": actions, "rewards": rewards, **ends}


@pytest.fixture
def d4rl_arrays() -> Callable[..., dict[str, np.ndarray]]:
    """`d4rl_arrays("hopper", [3, 5], tail=2)`: what `d4rl_file` writes, to be spoilt."""
    return d4rl_shaped


@pytest.fixture
def d4rl_file(tmp_path: Path) -> Callable[..., Path]:
    """`d4rl_file(arrays)`: a file with the keys D4RL adds, 21 in all; 9 without `metadata`, the policy that acted."""
    layers = ("fc0", "fc1", "last_fc", "last_fc_log_std")
    policy: dict[str, Any] = {f"metadata/policy/{layer}/{part}": np.zeros(4) for layer in layers for part in "wb"}
    policy |= {"metadata/policy/nonlinearity": b"relu", "metadata/policy/output_distribution": b"tanh"}
    policy |= {"metadata/algorithm": b"SAC", "metadata/iteration": 3}

    def make(arrays: dict[str, np.ndarray], *, metadata: bool = True, name: str = "set.hdf5") -> Path:
        rows = len(arrays["terminals"])
        extra: dict[str, Any] = {"next_observations": np.zeros((rows, 2)), "infos/action_log_probs": np.zeros(rows)}
        extra |= {"infos/qpos": np.zeros((rows, 6)), "infos/qvel": np.zeros((rows, 6))} | (policy if metadata else {})
        with h5py.File(tmp_path / name, "w") as file:
            for key, values in (arrays | extra).items():
                file.create_dataset(key, data=values)
        return tmp_path / name

    return make
