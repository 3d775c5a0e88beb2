"""Rolling behaviour policies out in lock-step, several simulators and one batched forward pass.

Episode k is a function of the seed and k alone: which policy acts in it, the reset and the noise. Episodes are kept
in the order of k, so that short ones, which end first, are no more frequent than they should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from tasks.rl.environment import LockStep
from tasks.rl.policies import NAMES, Mixture
from tasks.rl.robots import Robot

SIMULATORS = 32  # at most, at once
_STEPS_PER_SIMULATOR = 500
_PER_STEP = ("actions", "rewards", "log_probs", "positions", "velocities")


@dataclass(frozen=True)
class Episode:
    """One episode of T steps; observations (the simulated dimensions) have one row more: `after` is T + 1."""

    observations: Float32[np.ndarray, "after do"]
    actions: Float32[np.ndarray, "T da"]
    rewards: Float32[np.ndarray, " T"]
    log_probs: Float32[np.ndarray, " T"]
    positions: Float32[np.ndarray, "T nq"]
    velocities: Float32[np.ndarray, "T nv"]
    policy: int
    terminated: bool
    truncated: bool

    def __len__(self) -> int:
        return len(self.actions)


def roll_out_steps(
    robot: Robot,
    mixture: Mixture,
    steps: int,
    seed: tuple[int, ...],
    report: Callable[[int], None] = lambda done: None,
) -> list[Episode]:
    """Episodes that hold exactly `steps` steps in all; the last one may be cut off before its end.

    Args:
        report: called now and then with the number of steps made so far.

    Raises:
        EnvironmentFailed: if a simulator breaks.
    """
    slots = _Slots(robot, mixture, max(1, min(SIMULATORS, steps // _STEPS_PER_SIMULATOR)), seed)
    finished: dict[int, Episode] = {}
    try:
        while not slots.covered(finished, steps):
            for slot in slots.advance():
                finished[int(slots.episode[slot])] = slots.take(slot)
                slots.begin(slot, steps)
            report(min(slots.made, steps))
        for slot in np.flatnonzero(slots.running):
            finished[int(slots.episode[slot])] = slots.take(int(slot))
    finally:
        slots.envs.close()
    return _first_steps([finished[k] for k in sorted(finished)], steps)


@dataclass(frozen=True)
class Skill:
    """How well policies do: mean and standard deviation of the return over episodes, and their mean length."""

    mean: float
    std: float
    length: float


def measure_skill(robot: Robot, mixture: Mixture, episodes: int, seed: int) -> Skill:
    """Roll out whole episodes, all at once; actions are drawn, as in the data."""
    slots = _Slots(robot, mixture, episodes, (seed,))
    done: list[Episode] = []
    try:
        while slots.running.any():
            for slot in slots.advance():
                done.append(slots.take(slot))
                slots.running[slot] = False
    finally:
        slots.envs.close()
    returns = [float(episode.rewards.sum(dtype=np.float64)) for episode in done]
    return Skill(float(np.mean(returns)), float(np.std(returns)), float(np.mean([len(episode) for episode in done])))


class _Slots:
    """The simulators, each in some episode, and what these episodes held so far."""

    def __init__(self, robot: Robot, mixture: Mixture, n: int, seed: tuple[int, ...]) -> None:
        self.robot, self.mixture, self.seed = robot, mixture, seed
        self.envs = LockStep(robot, [0] * n)
        self.envs.reset()
        alive = np.arange(n)
        widths = [part.shape[1] for part in self.envs.configuration(alive)]
        T = robot.max_steps
        self.observations = np.zeros((n, T + 1, robot.simulated), np.float32)
        self.actions, self.noise = (np.zeros((n, T, robot.actions), np.float32) for _ in range(2))
        self.rewards = np.zeros((n, T), np.float32)
        self.positions, self.velocities = (np.zeros((n, T, width), np.float32) for width in widths)
        self.ended = np.zeros((2, n), bool)
        self.time, self.episode, self.policy = (np.zeros(n, np.int64) for _ in range(3))
        self.running = np.ones(n, bool)
        self.weights = {name: np.stack([getattr(mixture.policies[0], name)] * n) for name in NAMES}
        self.made = self.started = 0
        for slot in alive.tolist():
            self._start(slot)

    def begin(self, slot: int, steps: int) -> None:
        """Start the next episode in a free simulator, unless those made so far are enough."""
        if self.made < steps:
            self._start(slot)
        else:
            self.running[slot] = False

    def _start(self, slot: int) -> None:
        rng = np.random.default_rng([*self.seed, self.started])
        self.policy[slot] = rng.choice(len(self.mixture.policies), p=self.mixture.shares)
        for name, stacked in self.weights.items():
            stacked[slot] = getattr(self.mixture.policies[self.policy[slot]], name)
        self.observations[slot, 0] = self.envs.restart(slot, int(rng.integers(2**31)))[: self.robot.simulated]
        self.noise[slot] = rng.standard_normal(self.noise.shape[1:], np.float32)
        self.episode[slot], self.time[slot], self.started = self.started, 0, self.started + 1

    def advance(self) -> list[int]:
        """One step of every running episode; the simulators whose episode has ended."""
        alive = np.flatnonzero(self.running)
        time = self.time[alive]
        centre = _centres(
            {name: stacked[alive] for name, stacked in self.weights.items()}, self.observations[alive, time]
        )
        actions = np.clip(centre + np.exp(self.weights["log_std"][alive]) * self.noise[alive, time], -1, 1)
        self.actions[alive, time] = actions
        self.positions[alive, time], self.velocities[alive, time] = self.envs.configuration(alive)
        observations, rewards, terminated, truncated = self.envs.step(actions, alive)
        self.observations[alive, time + 1] = observations[:, : self.robot.simulated]
        self.rewards[alive, time] = rewards
        self.time[alive] += 1
        self.ended[:, alive] = terminated, truncated
        self.made += len(alive)
        return alive[terminated | truncated].tolist()

    def take(self, slot: int) -> Episode:
        """A copy of the episode so far."""
        end = int(self.time[slot])
        noise = self.noise[slot, :end].astype(np.float64)
        log_std = self.weights["log_std"][slot].astype(np.float64)
        log_probs = (-0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(axis=1)
        return Episode(
            self.observations[slot, : end + 1].copy(),
            self.actions[slot, :end].copy(),
            self.rewards[slot, :end].copy(),
            log_probs.astype(np.float32),
            self.positions[slot, :end].copy(),
            self.velocities[slot, :end].copy(),
            int(self.policy[slot]),
            *(bool(flag) for flag in self.ended[:, slot]),
        )

    def covered(self, finished: dict[int, Episode], steps: int) -> bool:
        """Whether the episodes before the first unfinished one, and what that one has so far, hold `steps` steps."""
        if self.made < steps:
            return False
        under_way = self.episode[self.running]
        first = int(under_way.min()) if len(under_way) else self.started
        held = sum(len(episode) for k, episode in finished.items() if k < first)
        return held + int(self.time[self.running & (self.episode == first)].sum()) >= steps


def _centres(weights: dict[str, np.ndarray], observations: Float32[np.ndarray, "n do"]) -> Float32[np.ndarray, "n da"]:
    """`GaussianPolicy.centre` of n policies at one observation each."""
    bound = weights["clip"][:, None]
    hidden = np.clip((observations - weights["mean"]) / weights["std"], -bound, bound)
    for layer in range(3):
        product = np.matmul(weights[f"weight{layer}"], hidden[:, :, None])[:, :, 0] + weights[f"bias{layer}"]
        hidden = np.tanh(product) if layer < 2 else product
    return hidden


def _first_steps(episodes: list[Episode], steps: int) -> list[Episode]:
    kept: list[Episode] = []
    left = steps
    for episode in episodes:
        if left <= 0:
            break
        if len(episode) > left:
            cut = {name: getattr(episode, name)[:left] for name in _PER_STEP}
            observations = episode.observations[: left + 1]
            episode = replace(episode, **cut, observations=observations, terminated=False, truncated=False)
        kept.append(episode)
        left -= len(episode)
    return kept
