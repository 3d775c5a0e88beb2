"""How many updates a CPU-second the family trains with, and how many steps it acts, beside the simulators alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from tasks.rl.acting import Actor
from tasks.rl.environment import LockStep
from tasks.rl.model import DecisionTransformer
from tasks.rl.robots import Robot
from tasks.rl.windows import Windows

SIZES: dict[str, Any] = {"d_model": 128, "n_layers": 3, "n_heads": 1, "d_ff": 512, "dropout": 0.1}
CONTEXT = 20


def a_model(robot: Robot, attention: str) -> DecisionTransformer:
    """A model of the paper's size that has learned nothing: its steps cost as much."""
    width = robot.observations
    statistics = {"state_mean": np.zeros(width), "state_std": np.ones(width)}
    return DecisionTransformer(observed=width, actions=robot.actions, attention=attention, **statistics, **SIZES)


def update_rate(robot: Robot, attention: str, *, batch: int, updates: int) -> dict[str, float]:
    """Milliseconds of CPU an update (median), and updates a CPU-second, on windows of the paper's length."""
    model = a_model(robot, attention).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
    windows = Windows(
        returns_to_go=torch.rand(batch, CONTEXT, 1),
        states=torch.randn(batch, CONTEXT, robot.observations),
        actions=torch.rand(batch, CONTEXT, robot.actions) * 2 - 1,
        timesteps=torch.arange(CONTEXT) + torch.randint(0, robot.max_steps - CONTEXT, (batch, 1)),
        valid=torch.ones(batch, CONTEXT, dtype=torch.bool),
    )
    taken = []
    for _ in range(updates + 1):  # the first compiles and fills caches
        start = time.thread_time()
        optimiser.zero_grad()
        (model(windows) - windows.actions).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimiser.step()
        taken.append(time.thread_time() - start)
    middle = float(np.median(taken[1:]))
    return {"ms_per_update": 1e3 * middle, "updates_per_cpu_s": 1 / middle}


def acting_rate(robot: Robot, attention: str, mode: str, *, episodes: int, steps: int) -> dict[str, float]:
    """CPU time of the simulators alone and of the policy, for as many episodes in lock-step, all of them alive.

    An episode that ends is started anew, so that every step has the same work; the first window is left out.
    """
    simulators, rng = LockStep(robot, range(episodes)), np.random.default_rng(0)
    actor = Actor(a_model(robot, attention).eval(), mode, CONTEXT)
    seen, everyone = simulators.reset(), np.arange(episodes)
    to_go, spent = torch.ones(episodes), {"environment": 0.0, "policy": 0.0}
    for step in range(CONTEXT + steps):
        start = time.thread_time()
        actions = actor.act(to_go, torch.from_numpy(seen)).numpy()
        between = time.thread_time()
        # What an untrained model does ends an episode at once: the robot is moved at random.
        moves = rng.uniform(-1, 1, actions.shape).astype(np.float32)
        begun = time.thread_time()
        seen, _, terminated, truncated = simulators.step(moves, everyone)
        ended = time.thread_time()
        for row in np.flatnonzero(terminated | truncated):
            seen[row] = simulators.restart(int(row), 1000 + step)
        if step >= CONTEXT:
            spent["policy"] += between - start
            spent["environment"] += ended - begun
    simulators.close()
    acted = episodes * steps
    return {
        "environment_steps_per_cpu_s": acted / spent["environment"],
        "policy_steps_per_cpu_s": acted / spent["policy"],
        "steps_per_cpu_s": acted / (spent["environment"] + spent["policy"]),
        "policy_over_environment": spent["policy"] / spent["environment"],
    }
