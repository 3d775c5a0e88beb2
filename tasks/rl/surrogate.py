"""Surrogates of D4RL's sets: real physics under behaviour policies that anybody has, for those without the files.

A surrogate is no D4RL set and is never called one. It is made once, from the policies and a seed, and kept under a
name that says what it is made of: another policy, or another way of rolling it out, makes another file.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from tasks.errors import ConfigError, DatasetError, DatasetUnavailable
from tasks.locate import cache_root, data_root, locate
from tasks.rl.policies import Mixture, load_own, load_snapshots, snapshot_lengths
from tasks.rl.robots import Robot, robot_of, tier_of
from tasks.suite.atomic import WriteError, remove_leftovers, write_atomic
from tasks.suite.manifest import load_manifest
from tasks.verify import check_file, fingerprints

log = logging.getLogger(__name__)
SOURCES = ("own", "snapshots")
GENERATOR_VERSION = 1  # of what is rolled out and written: a new number makes new files
WEIGHTS = Path(__file__).resolve().parent / "weights"
# The iterations whose returns come closest to D4RL's medium tiers, of the 26 that the data root's logs hold.
_MEDIUM = {"halfcheetah": 200, "hopper": 20, "walker2d": 80, "ant": 240}
_EXPERT, _EVERY = 500, 20


@dataclass(frozen=True)
class Recipe:
    """What a surrogate is made of.

    `parts` are rolled out one after the other, for equal numbers of steps; `sha256` are the hashes of the files that
    hold their policies.
    """

    robot: Robot
    dataset: str
    source: str
    steps: int
    seed: int
    parts: tuple[Mixture, ...]
    sha256: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """The name of its file: data set, `surrogate`, source, steps, seed, and a hash of policies and generator."""
        made_of = hashlib.sha256(repr((GENERATOR_VERSION, self.dataset, self.sha256)).encode()).hexdigest()[:12]
        return f"{self.dataset}-surrogate-{self.source}-{self.steps}-{self.seed}-{made_of}.hdf5"


def recipe(dataset: str, steps: int, seed: int, source: str = "own") -> Recipe:
    """What to roll out for a data set of this family (`known/hopper-masked` is hopper-medium with less to see).

    Raises:
        UnknownDataset, ConfigError: a name, source, seed or number of steps that cannot be.
        DatasetUnavailable, DatasetError: policies that are not there or not readable.
    """
    robot, tier = robot_of(dataset), tier_of(dataset)
    if source not in SOURCES:
        raise ConfigError("task.data.surrogate.source", source, f"choose one of {', '.join(SOURCES)}")
    least = robot.max_steps * (2 if tier == "medium-expert" else 1)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < least:
        reason = f"must be a whole number, at least {least}: fewer need not hold one whole episode"
        raise ConfigError("task.data.surrogate.steps", steps, reason + (" of each policy" if least > 1000 else ""))
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError("task.data.surrogate.seed", seed, "must be a whole number, at least 0")
    tiers = ("medium", "expert") if tier == "medium-expert" else (tier,)
    parts, hashes = zip(*((_own if source == "own" else _snapshots)(robot, tier) for tier in tiers), strict=True)
    return Recipe(robot, f"{robot.name}-{tier}", source, steps, seed, parts, hashes)


def surrogate_file(
    dataset: str,
    steps: int,
    seed: int,
    source: str = "own",
    *,
    out: Path | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> Path:
    """The file of a surrogate, verified: from the data root (`surrogates/`), else from the cache, made if absent.

    Args:
        out: a folder to have it in instead.
        report: called now and then with the number of steps made so far.

    Raises:
        What `recipe` raises; DatasetError: a file in the data root or `out` that was altered.
        EnvironmentFailed: no simulator, or it broke. WriteError: no room. In all cases nothing half-written is left.
    """
    made_of = recipe(dataset, steps, seed, source)
    given = data_root() / "surrogates" / made_of.file_name
    if out is None and given.is_file():
        return _checked(given, f"delete {given}, or make it again with python scripts/data.py surrogate {dataset}")
    path = (out or cache_root() / "surrogates") / made_of.file_name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path.parent, error) from error
    with FileLock(path.with_name(f".{path.name}.lock")):  # jobs side by side may want the same file
        if path.is_file():
            try:
                return _checked(path, f"delete {path}")
            except DatasetError as error:
                log.warning("%s; making it again", error.reason)
        from tasks.rl.writing import write_surrogate

        remove_leftovers(path)
        log.info("making %s", path)
        digest = write_surrogate(path, made_of, GENERATOR_VERSION, report)
        write_atomic(_hash_file(path), f"{digest}  {path.name}\n".encode())
    return path


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checked(path: Path, fix: str) -> Path:
    try:
        expected = _hash_file(path).read_text().split()[0]
        found = fingerprints(path).sha256
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise DatasetError(path, f"its hash beside it cannot be compared ({error})", fix) from error
    if found != expected:
        raise DatasetError(path, f"has SHA-256 {found}, not {expected}: it was altered", fix)
    return path


def _own(robot: Robot, tier: str) -> tuple[Mixture, str]:
    path = WEIGHTS / f"{robot.name}-{tier}.npz"
    mixture = load_own(path, robot)
    return mixture, fingerprints(path).sha256


def _snapshots(robot: Robot, tier: str) -> tuple[Mixture, str]:
    entry = next(file for file in load_manifest().materials["behaviour-policies"] if file.role == robot.name)
    found = locate(entry)
    if found is None:
        fix = f"put {entry.urls[0]} there, or use the project's own policies (source own)"
        raise DatasetUnavailable(data_root() / entry.path, "these policies were not found", fix)
    sha256, _ = check_file(found[0], entry)
    last = {"random": 0, "medium": _MEDIUM[robot.name], "expert": _EXPERT, "medium-replay": _MEDIUM[robot.name]}[tier]
    iterations = tuple(range(0 if tier == "medium-replay" else last, last + 1, _EVERY))
    policies = load_snapshots(found[0], robot, iterations)
    episodes = 1 / snapshot_lengths(found[0], iterations)  # equal numbers of steps, as in a replay buffer
    shares: Any = (episodes / episodes.sum()).tolist()
    return Mixture(policies, iterations, tuple(shares), "TRPO (openai/imitation)"), sha256
