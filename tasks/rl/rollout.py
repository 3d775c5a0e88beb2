"""Episodes in lock-step in one process: n simulators, one batched policy, an episode that ends leaves the batch.

The return-to-go starts at the target and falls by what is earned (protocol, section 1.1): both in units of `scale`.
Same weights and seeds, same returns: neither the policy nor the simulators draw from a global generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from tasks.rl.acting import Actor
from tasks.rl.environment import LockStep
from tasks.rl.model import DecisionTransformer
from tasks.rl.robots import Robot

# Called before every step with the simulators, the episodes still alive and what each is still to earn (unscaled).
Watch = Callable[[LockStep, np.ndarray, np.ndarray], None]


class PolicyFailed(RuntimeError):
    """The policy gave an action that is not a finite number."""


@dataclass(frozen=True)
class RollOut:
    """What n episodes earned, in the order of their seeds, and for how many steps they lasted."""

    returns: Float[np.ndarray, " n"]
    lengths: Int[np.ndarray, " n"]


def roll_out(
    model: DecisionTransformer,
    robot: Robot,
    seeds: Sequence[int] | Int[np.ndarray, " n"],
    *,
    mode: str,
    context: int,
    target_return: float,
    scale: float = 1000.0,
    max_steps: int = 1000,
    watch: Watch | None = None,
) -> RollOut:
    """Act in one episode per seed until it ends by itself or after `max_steps`.

    The model sees the first `model.observed` dimensions of an observation: where velocities are hidden, the positions.

    Raises:
        ConfigError: a mode that this model cannot act in.
        EnvironmentFailed: the simulator broke, or gave a number that is not finite.
        PolicyFailed: the model gave one.
    """
    was_training = model.training
    actor = Actor(model.eval(), mode, context)
    simulators = LockStep(robot, [int(seed) for seed in seeds])
    try:
        steps = min(max_steps, robot.max_steps)
        return _roll_out(actor, simulators, target_return=target_return, scale=scale, steps=steps, watch=watch)
    finally:
        simulators.close()
        model.train(was_training)


def _roll_out(
    actor: Actor, simulators: LockStep, *, target_return: float, scale: float, steps: int, watch: Watch | None
) -> RollOut:
    device, observed = actor.model.state_mean.device, actor.model.observed
    observations = simulators.reset()
    alive = np.arange(len(observations))
    returns, lengths = np.zeros(len(alive)), np.zeros(len(alive), dtype=np.int64)
    for _ in range(steps):
        to_earn = target_return - returns[alive]
        if watch is not None:
            watch(simulators, alive, to_earn)
        to_go = torch.from_numpy((to_earn / scale).astype(np.float32))
        seen = torch.from_numpy(np.ascontiguousarray(observations[:, :observed], dtype=np.float32))
        actions = actor.act(to_go.to(device), seen.to(device)).cpu().numpy()
        if not np.isfinite(actions).all():
            raise PolicyFailed(
                f"{simulators.robot.name}'s action at step {actor.step - 1} is not finite: these weights cannot act; "
                "lower task.optim.lr, or set task.optim.clip"
            )
        observations, rewards, terminated, truncated = simulators.step(actions, alive)
        returns[alive] += rewards
        lengths[alive] += 1
        going = ~(terminated | truncated)
        if not going.all():
            alive, observations = alive[going], observations[going]
            actor.keep(torch.from_numpy(np.flatnonzero(going)).to(device))
        if not len(alive):
            break
    return RollOut(returns, lengths)
