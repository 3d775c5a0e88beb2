"""Facts about the four robots of D4RL's locomotion sets, and what a dataset's name says; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.errors import UnknownDataset

TIERS = ("random", "medium", "medium-replay", "medium-expert")
_MASKED = {"known/hopper-masked": "hopper-medium", "known/walker2d-masked": "walker2d-medium"}


@dataclass(frozen=True)
class Robot:
    """One robot.

    Attributes:
        observations: dimensions of an observation in D4RL's files; `simulated` those the environment gives. Only
            Ant's differ: D4RL's Ant files have 84 contact forces that gym never filled, zero throughout.
        actions: dimensions of an action, each in [-1, 1].
        positions: how many leading dimensions of an observation are positions and angles; the rest are velocities.
        reference_min, reference_max: the returns that D4RL scores as 0 (random) and 100 (expert), `d4rl.infos`.
        max_steps: an episode is cut there (a timeout).
    """

    name: str
    env_id: str
    observations: int
    simulated: int
    actions: int
    positions: int
    reference_min: float
    reference_max: float
    max_steps: int = 1000


ROBOTS = {
    robot.name: robot
    for robot in (
        Robot("halfcheetah", "HalfCheetah-v4", 17, 17, 6, 8, -280.178953, 12135.0),
        Robot("hopper", "Hopper-v4", 11, 11, 3, 5, -20.272305, 3234.3),
        Robot("walker2d", "Walker2d-v4", 17, 17, 6, 8, 1.629008, 4592.3),
        Robot("ant", "Ant-v4", 111, 27, 8, 13, -325.6, 3879.7),
    )
}
DATASETS = (*(f"{robot}-{tier}" for robot in ROBOTS for tier in TIERS), *_MASKED)


def robot_of(dataset: str) -> Robot:
    """The robot of a dataset: `hopper-medium` and `known/hopper-masked` are hopper's.

    Raises:
        UnknownDataset: if no dataset of this family has the name.
    """
    return ROBOTS[_parts(dataset)[0]]


def tier_of(dataset: str) -> str:
    """Which of `TIERS` a dataset is; `known/hopper-masked` hides velocities of the `medium` tier."""
    return _parts(dataset)[1]


def normalized_score(robot: Robot, returns: float | np.ndarray) -> np.ndarray:
    """D4RL's normalised score of undiscounted returns, element by element: 0 is random, 100 is expert."""
    span = robot.reference_max - robot.reference_min
    return np.asarray(100 * (np.asarray(returns, np.float64) - robot.reference_min) / span)


def _parts(dataset: str) -> tuple[str, str]:
    if dataset not in DATASETS:
        raise UnknownDataset(dataset, DATASETS)
    robot, _, tier = _MASKED.get(dataset, dataset).partition("-")
    return robot, tier
