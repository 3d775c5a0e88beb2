"""Writing a surrogate in D4RL's schema: flat arrays and `metadata`, whole and verified or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from tasks.errors import DatasetError
from tasks.rl.d4rl import read_episodes
from tasks.rl.environment import LockStep
from tasks.rl.generate import Episode, roll_out_steps
from tasks.rl.robots import Robot, normalized_score
from tasks.suite.atomic import replacing

if TYPE_CHECKING:
    from tasks.rl.surrogate import Recipe

NOTE = "Surrogate data: real physics under a policy that is not D4RL's. These are not the D4RL data."
_COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
_ROWS = 8192  # of a chunk


def write_surrogate(path: Path, made_of: Recipe, version: int, report: Callable[[int], None]) -> str:
    """Roll a recipe out into `path`, through a temporary file beside it that is read back first.

    The same recipe gives the same bytes where gymnasium, MuJoCo, NumPy and HDF5 are the same. As in D4RL's files, the
    last episode may be unfinished: neither `terminals` nor `timeouts` ends it, and readers drop it.

    Returns:
        The file's SHA-256.

    Raises:
        EnvironmentFailed: if a simulator breaks. WriteError: if the disk is full. DatasetError: if what was written
        does not read back. Nothing half-written remains.
    """
    robot = made_of.robot
    episodes: list[tuple[int, Episode]] = []  # with the number of policies before its part's
    left, before = made_of.steps, 0
    for index, mixture in enumerate(made_of.parts):
        last = index == len(made_of.parts) - 1
        steps = left if last else made_of.steps // len(made_of.parts)
        done = made_of.steps - left
        made = roll_out_steps(robot, mixture, steps, (made_of.seed, index), lambda n, done=done: report(done + n))
        if not last and not (made[-1].terminated or made[-1].truncated):
            made.pop()  # only the file's last episode may be unfinished
        episodes += [(before, episode) for episode in made]
        left -= sum(map(len, made))
        before += len(mixture.policies)
    with replacing(path) as temporary:
        with h5py.File(temporary, "w") as file:
            _write_steps(file, made_of, episodes)
            _write_metadata(file, made_of, version, [episode for _, episode in episodes])
        found = read_episodes(temporary, robot)
        whole = sum(len(episode) for _, episode in episodes if episode.terminated or episode.truncated)
        if len(found.rewards) != whole or found.behaviour_mean is None:
            raise DatasetError(path, "does not read back as it was written", "run the same command again")
        with temporary.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_steps(file: h5py.File, made_of: Recipe, episodes: list[tuple[int, Episode]]) -> None:
    robot, policies = made_of.robot, [policy for part in made_of.parts for policy in part.policies]
    ends = np.cumsum([len(episode) for _, episode in episodes]) - 1
    columns: dict[str, Callable[[int, Episode], np.ndarray]] = {
        "observations": lambda _, e: e.observations[:-1],
        "next_observations": lambda _, e: e.observations[1:],
        "actions": lambda _, e: e.actions,
        "rewards": lambda _, e: e.rewards,
        "infos/action_log_probs": lambda _, e: e.log_probs,
        "infos/qpos": lambda _, e: e.positions,
        "infos/qvel": lambda _, e: e.velocities,
        "infos/behaviour_mean": lambda p, e: policies[p + e.policy].expected_action(e.observations[:-1]),
        "infos/policy": lambda p, e: np.full(len(e), p + e.policy, np.int16),
    }
    for name, column in columns.items():
        values = np.concatenate([column(before, episode) for before, episode in episodes])
        _create(file, name, values, robot)
    for name, flag in (("terminals", "terminated"), ("timeouts", "truncated")):
        flags = np.zeros(made_of.steps, bool)
        flags[ends] = [getattr(episode, flag) for _, episode in episodes]
        _create(file, name, flags, robot)


def _create(file: h5py.File, name: str, values: np.ndarray, robot: Robot) -> None:
    shape = values.shape
    if name.endswith("observations"):
        shape = (len(values), robot.observations)  # Ant's 84 others stay at the fill value, 0
    chunks = (min(_ROWS, shape[0]), *shape[1:])
    array = file.create_dataset(name, shape, values.dtype, chunks=chunks, **_COMPRESSION)
    if values.ndim == 1:
        array[:] = values
    else:
        array[:, : values.shape[1]] = values


def _write_metadata(file: h5py.File, made_of: Recipe, version: int, episodes: list[Episode]) -> None:
    robot = made_of.robot
    whole = [episode for episode in episodes if episode.terminated or episode.truncated]
    returns = np.array([episode.rewards.sum(dtype=np.float64) for episode in whole])
    engine = LockStep(robot, [0])
    facts: dict[str, Any] = {
        "dataset": f"{made_of.dataset}-surrogate",
        "note": NOTE,
        "source": made_of.source,
        "algorithm": " and ".join(sorted({part.algorithm for part in made_of.parts})),
        "iteration": max(part.iterations[-1] for part in made_of.parts),
        **engine.versions(),
        "seed": made_of.seed,
        "steps": made_of.steps,
        "generator_version": version,
        "policies_sha256": " ".join(made_of.sha256),
        "skill/episodes": len(whole),
        "skill/return_mean": returns.mean(),
        "skill/return_std": returns.std(),
        "skill/normalized_score": float(normalized_score(robot, returns.mean())),
    }
    engine.close()
    for name, value in facts.items():
        file[f"metadata/{name}"] = value
    file["metadata/iterations"] = np.array([at for part in made_of.parts for at in part.iterations])
    if len(made_of.parts) == 1 and len(made_of.parts[0].policies) == 1:  # as in D4RL's files of one policy
        policy = made_of.parts[0].policies[0]
        layers = {"fc0": "0", "fc1": "1", "last_fc": "2"}
        for layer, suffix in layers.items():
            file[f"metadata/policy/{layer}/weight"] = getattr(policy, f"weight{suffix}")
            file[f"metadata/policy/{layer}/bias"] = getattr(policy, f"bias{suffix}")
        for name in ("mean", "std", "clip"):
            if np.isfinite(getattr(policy, name)).all():  # no bound: nothing to say
                file[f"metadata/policy/observation/{name}"] = getattr(policy, name)
        file["metadata/policy/log_std"] = policy.log_std
        file["metadata/policy/nonlinearity"] = "tanh"
        file["metadata/policy/output_distribution"] = "gaussian, clipped to [-1, 1]"
