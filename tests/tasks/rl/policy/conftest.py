"""Invented episodes with a known policy, the data made of them, and small models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tasks.rl.data import RLData
from tasks.rl.episodes import Episodes
from tasks.rl.model import DecisionTransformer
from tasks.rl.robots import ROBOTS
from tasks.rl.windows import Windows

MODEL = {"d_model": 16, "n_layers": 2, "n_heads": 1, "d_ff": 32, "dropout": 0.1, "activation": "gelu", "norm": "post"}
OPTIM = {"name": "adamw", "lr": 1e-2, "weight_decay": 1e-4, "clip": 0.25, "warmup_steps": 0, "schedule": "constant"}


def invented(n: int = 40, longest: int = 60, seed: int = 0, robot: str = "hopper") -> Episodes:
    """Episodes of `robot`'s dimensions: action = clip(tanh of some observations + noise), reward 1 + noise."""
    rng, facts = np.random.default_rng(seed), ROBOTS[robot]
    lengths = rng.integers(5, longest, n)
    steps = int(lengths.sum())
    observations = rng.normal(2.0, 3.0, (steps, facts.simulated)).astype(np.float32)
    mean = np.tanh(0.3 * (observations[:, : facts.actions] - 2)).astype(np.float32)
    actions = np.clip(mean + rng.normal(0, 0.1, mean.shape), -1, 1).astype(np.float32)
    rewards = rng.normal(1, 0.1, steps).astype(np.float32)
    return Episodes(observations, actions, rewards, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), mean)


@pytest.fixture
def options() -> dict[str, Any]:
    """A whole `task` block."""
    return {
        "model": {**MODEL, "timesteps": 256},
        "optim": dict(OPTIM),
        "data": {
            "batch_size": 8, "eval_batch_size": 16, "context": 6, "sampling": "uniform", "scale": 1000, "observe": "all"
        },
        "rollout": {
            "mode": "window", "val_episodes": 2, "test_episodes": 3, "max_steps": 30, "target_return": None,
            "video": False,
        },
    }  # fmt: skip


@pytest.fixture
def data_of(options):
    """`data_of(episodes, **task_data)`: hopper's data as a surrogate's."""

    def make(episodes: Episodes | None = None, hold_out: bool = True, **changes: Any) -> RLData:
        return RLData(
            invented() if episodes is None else episodes,
            ROBOTS["hopper"],
            hold_out=hold_out,
            options={**options["data"], **changes},
            rollout=options["rollout"],
            target_return=None,
            seed=0,
            path="invented.hdf5",
        )

    return make


@pytest.fixture
def model_of():
    """`model_of("aaren", ...)`: a small model in evaluation mode, of hopper's dimensions."""

    def make(attention: str, observed: int = 11, actions: int = 3, **changes: Any) -> DecisionTransformer:
        torch.manual_seed(0)
        statistics = {"state_mean": np.full(observed, 2.0), "state_std": np.full(observed, 3.0)}
        sizes: dict[str, Any] = {"observed": observed, "actions": actions, **statistics, **MODEL, **changes}
        return DecisionTransformer(attention=attention, **sizes).eval()

    return make


@pytest.fixture
def windows():
    """`windows(batch, steps)`: random windows of hopper's dimensions, standardised, all steps real."""

    def make(batch: int = 3, steps: int = 7, observed: int = 11, actions: int = 3) -> Windows:
        draw = torch.Generator().manual_seed(1)
        return Windows(
            returns_to_go=torch.randn(batch, steps, 1, generator=draw),
            states=torch.randn(batch, steps, observed, generator=draw),
            actions=torch.rand(batch, steps, actions, generator=draw) * 2 - 1,
            timesteps=torch.arange(steps)[None] + torch.tensor([0, 11, 40, 5, 7, 9, 2, 30])[:batch, None],
            valid=torch.ones(batch, steps, dtype=torch.bool),
        )

    return make
