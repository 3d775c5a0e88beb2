"""From a training's snapshots to the tiers' policies: one npz a robot and tier, small enough to commit.

The rules, the same for every robot. `expert` is the best of the `CANDIDATES` snapshots where the learning curve (mean
return of the last 100 training episodes) is highest, by its return over `EPISODES` new episodes with drawn actions;
`medium` the first snapshot whose return, so measured, is at least half of the expert's (looked for from where the curve
has a quarter of it); `random` the untrained network, as D4RL's; `medium-replay` is snapshots evenly spaced from
untrained to medium, each acting for the same number of steps, as in a replay buffer: so in more episodes while these
were short. `medium-expert` has no file, it uses two others.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import ConfigError
from tasks.npz import read_arrays
from tasks.rl.behaviour import read_curve
from tasks.rl.generate import Skill, measure_skill
from tasks.rl.policies import NAMES, GaussianPolicy, Mixture, policy_of
from tasks.rl.robots import Robot, normalized_score
from tasks.suite.atomic import write_atomic

PACKED = ("random", "medium", "medium-replay", "expert")
EPISODES = 20
CANDIDATES = 8
REPLAY_SNAPSHOTS = 9
SEED = 20_000


def pack(robot: Robot, work: Path, out: Path, *, medium_return: float | None = None) -> list[str]:
    """Choose the tiers' policies and write them to `out`/<robot>-<tier>.npz.

    Args:
        work: the folder of one training.
        medium_return: the return that `medium` must reach, where the training is not over yet.
            No expert is written then.

    Returns:
        A line per tier: robot, tier, steps trained, mean and standard deviation of the return, score, mean length.

    Raises:
        ConfigError: if the folder has no snapshots, or none that is good enough for `medium`.
    """
    paths = sorted((work / "snapshots").glob("*.npz"))
    if not paths:
        raise ConfigError("--work", str(work), "holds no snapshots; run train first")
    snapshots = {int(path.stem): read_snapshot(path) for path in paths}
    steps = list(snapshots)
    skills: dict[int, Skill] = {}

    def skill(at: int) -> Skill:
        if at not in skills:
            skills[at] = measure_skill(robot, _mixture(snapshots, {at: 1.0}), EPISODES, SEED)
        return skills[at]

    curve = [line for line in read_curve(work / "curve.csv") if line["episodes"] > 0]
    highest = sorted(curve, key=lambda line: line["return"])[-CANDIDATES:]
    best = max((int(line["steps"]) for line in highest), key=lambda at: skill(at).mean)
    wanted = skill(best).mean / 2 if medium_return is None else medium_return
    good = (int(line["steps"]) for line in curve if line["return"] >= wanted / 2)
    medium = next((at for at in good if skill(at).mean >= wanted), None)
    if medium is None:
        raise ConfigError("--medium-return", wanted, f"no snapshot of {work} reaches it")
    before = [at for at in steps if at <= medium]
    spread = np.linspace(0, len(before) - 1, min(REPLAY_SNAPSHOTS, len(before))).round().astype(int)
    episodes = {before[i]: 1 / skill(before[i]).length for i in spread}
    tiers = {"random": {steps[0]: 1.0}, "medium": {medium: 1.0}, "medium-replay": episodes}
    if medium_return is None:
        tiers["expert"] = {best: 1.0}
    lines = []
    for tier, weights in tiers.items():
        mixture = _mixture(snapshots, weights)
        write_atomic(out / f"{robot.name}-{tier}.npz", as_npz(mixture))
        found = measure_skill(robot, mixture, EPISODES if len(weights) == 1 else 5 * EPISODES, SEED)
        score = float(normalized_score(robot, found.mean))
        numbers = f"{found.mean:.0f},{found.std:.0f},{score:.1f},{found.length:.0f}"
        lines.append(f"{robot.name},{tier},{max(weights)},{numbers}")
    return lines


def read_snapshot(path: Path) -> GaussianPolicy:
    """A policy as `tasks.rl.behaviour` left it."""
    return policy_of(read_arrays(path))


def as_npz(mixture: Mixture) -> bytes:
    """What `tasks.rl.policies.load_own` reads; the same mixture gives the same bytes."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: np.stack([getattr(policy, name) for policy in mixture.policies]) for name in NAMES}
    arrays["iterations"], arrays["shares"] = np.array(mixture.iterations), np.array(mixture.shares)
    np.savez_compressed(content, **arrays, algorithm=np.array(mixture.algorithm))
    return content.getvalue()


def _mixture(snapshots: dict[int, GaussianPolicy], weights: dict[int, float]) -> Mixture:
    total = sum(weights.values())
    shares = tuple(weight / total for weight in weights.values())
    return Mixture(tuple(snapshots[at] for at in weights), tuple(weights), shares, "PPO (stable-baselines3)")
