"""The robots' simulators: gymnasium v4, whose physics and rewards are those that D4RL's files were made with.

Several environments are stepped one after another in one process: a step takes 40 to 250 microseconds, so
gymnasium's worker processes cost more than they give. Nothing is rendered and no display is needed.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from tasks.rl.robots import Robot

if TYPE_CHECKING:
    import gymnasium

log = logging.getLogger(__name__)


class EnvironmentFailed(RuntimeError):
    """The simulator is missing, raised an error or gave numbers that are not finite; the message says where."""


def make_env(robot: Robot, render_mode: str | None = None) -> gymnasium.Env:
    """One environment of a robot, without gymnasium's own checker (20 % of a step's time).

    Ant runs without contact forces, as in D4RL's files: with them its policies fall at once.

    Raises:
        EnvironmentFailed: if gymnasium, MuJoCo or this version of the environment is missing.
    """
    try:
        import gymnasium
        import mujoco

        if mujoco.get_mju_user_warning() is None:  # pyright: ignore[reportAttributeAccessIssue]
            mujoco.set_mju_user_warning(_note)  # pyright: ignore[reportAttributeAccessIssue]
        with warnings.catch_warnings():
            # v5 has other physics (Walker2d), rewards (Hopper) and observations (Ant) than the data
            warnings.filterwarnings("ignore", message=".*is out of date.*", category=DeprecationWarning)
            return gymnasium.make(robot.env_id, disable_env_checker=True, render_mode=render_mode)
    except Exception as error:
        reason = f"{robot.env_id} cannot be made ({type(error).__name__}: {error})"
        raise EnvironmentFailed(f'{reason}. Fix: pip install "gymnasium[mujoco]", or make setup') from error


def _note(message: str) -> None:
    """MuJoCo's warnings to the log: by itself it prints them and writes MUJOCO_LOG.TXT where the user happens to be."""
    # gymnasium's own models of Hopper and Walker2d say settotalmass: news to nobody
    log.log(logging.DEBUG if "settotalmass" in message else logging.WARNING, "MuJoCo: %s", message)


class LockStep:
    """n independent simulators of one robot, stepped together; environment i starts from `seeds[i]`.

    Observations are float32 and as wide as D4RL's: Ant's 27 dimensions are followed by 84 zeros. Equal seeds and
    actions give equal numbers, whatever the other environments do.
    """

    def __init__(self, robot: Robot, seeds: Sequence[int]) -> None:
        self.robot, self.seeds = robot, [int(seed) for seed in seeds]
        self.envs = [make_env(robot) for _ in self.seeds]
        self.steps = np.zeros(len(self.envs), np.int64)

    def reset(self) -> Float32[np.ndarray, "n do"]:
        """Start every environment from its own seed; the first observations."""
        observations = np.zeros((len(self.envs), self.robot.observations), np.float32)
        for index, seed in enumerate(self.seeds):
            observations[index] = self.restart(index, seed)
        return observations

    def restart(self, index: int, seed: int) -> Float32[np.ndarray, " do"]:
        """Start one environment anew from `seed`; its first observation."""
        self.seeds[index], self.steps[index] = int(seed), 0
        observation = np.zeros(self.robot.observations, np.float32)
        try:
            observation[: self.robot.simulated] = self.envs[index].reset(seed=self.seeds[index])[0]
        except Exception as error:
            raise EnvironmentFailed(f"{self._where(index)}: {type(error).__name__}: {error}") from error
        return observation

    def step(
        self, actions: Float[np.ndarray, "alive da"], alive: Int[np.ndarray, " alive"]
    ) -> tuple[
        Float32[np.ndarray, "alive do"],
        Float[np.ndarray, " alive"],
        Bool[np.ndarray, " alive"],
        Bool[np.ndarray, " alive"],
    ]:
        """Step the environments named in `alive`, each with its row of `actions` (in [-1, 1]).

        Returns:
            Observations, rewards (float64), which episodes terminated (the robot fell), and which were truncated
            (1000 steps), in the order of `alive`.

        Raises:
            EnvironmentFailed: if a simulator raises, or gives a reward or an observation that is not finite.
        """
        observations = np.zeros((len(alive), self.robot.observations), np.float32)
        rewards = np.zeros(len(alive))
        ended = np.zeros((2, len(alive)), bool)
        width = self.robot.simulated
        self.steps[alive] += 1
        for row, index in enumerate(alive.tolist()):
            try:
                observation, rewards[row], ended[0, row], ended[1, row], _ = self.envs[index].step(actions[row])
                observations[row, :width] = observation
            except Exception as error:
                raise EnvironmentFailed(f"{self._where(index)}: {type(error).__name__}: {error}") from error
        if not (np.isfinite(rewards).all() and np.isfinite(observations).all()):
            bad = ~(np.isfinite(rewards) & np.isfinite(observations).all(axis=1))
            where = self._where(int(alive[np.flatnonzero(bad)[0]]))
            raise EnvironmentFailed(f"{where}: the reward or the observation is not a finite number")
        return observations, rewards, ended[0], ended[1]

    def configuration(self, alive: Int[np.ndarray, " alive"]) -> tuple[np.ndarray, np.ndarray]:
        """Joint positions [alive, nq] and velocities [alive, nv] as the simulator holds them (float64)."""
        states = [self.envs[index].unwrapped.data for index in alive]  # pyright: ignore[reportAttributeAccessIssue]
        return np.stack([state.qpos for state in states]), np.stack([state.qvel for state in states])

    def versions(self) -> dict[str, str]:
        """What the scores depend on besides the policy."""
        return {"env_id": self.robot.env_id, "gymnasium": version("gymnasium"), "mujoco": version("mujoco")}

    def close(self) -> None:
        """Free the simulators."""
        for env in self.envs:
            env.close()

    def _where(self, index: int) -> str:
        return f"{self.robot.env_id} with seed {self.seeds[index]} failed at step {self.steps[index]}"
