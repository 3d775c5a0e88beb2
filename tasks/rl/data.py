"""Data of an RL job: episodes to learn from, windows of them, and which seeds the policy is rolled out on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.batches import TaskData
from tasks.data import Resolved, load_cached
from tasks.errors import ConfigError, DatasetError
from tasks.rl.d4rl import PARSE_VERSION, as_episodes, parse, read_episodes, read_metadata
from tasks.rl.episodes import Episodes
from tasks.rl.robots import Robot, robot_of, tier_of
from tasks.rl.windows import SAMPLING, Standardiser, WindowCutter, Windows

OBSERVE = ("all", "positions")
STEPS_PER_EPOCH = 100  # updates; an "iteration" of the base code
HELD_OUT_EVERY = 10  # of a surrogate's episodes, one in so many is never trained on
FIRST_SEED = {"val": 1_000_000, "test": 2_000_000}  # of the rolled-out episodes: the same for every model and seed


class EvalEpisodes(NamedTuple):
    """Episodes to roll out together: the seed of each one's reset, [n] int64."""

    seeds: Tensor


def held_out(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The held-out episodes of n, for val and for test: every tenth, taken in turns; of less than 20, one each."""
    every = np.arange(HELD_OUT_EVERY - 1, n, HELD_OUT_EVERY)
    return (every[::2], every[1::2]) if len(every) > 1 else (np.array([n // 3]), np.array([2 * n // 3]))


class RLData(TaskData):
    """Windows of the training episodes; to evaluate, episodes to roll out and windows of held-out episodes.

    Attributes:
        robot: whose data they are.
        episodes: those trained on. `held_out` are a surrogate's others (val and test take turns), None for D4RL's sets.
        standardise: from observations to states, fitted on the training episodes (`state_mean`, `state_std` [n]).
        target_return: what the policy is asked for when it is rolled out, and `target_rule`, where that is from.
        all_returns, all_lengths: of all episodes, held-out ones too [E]; `return_ratio` divides by the mean of them.

    Args:
        episodes: all complete episodes.
        hold_out: whether to hold out episodes (surrogates) or to train on all of them (D4RL, as in the base code).
        options: `task.data`: batch_size, eval_batch_size, context, sampling, scale, observe.
        rollout: `task.rollout`: val_episodes, test_episodes, target_return (None: by rule).
        target_return: the dataset's own target (D4RL's sets); None: the best return in the training episodes.

    Raises:
        ConfigError: an option's value. DatasetError: too few episodes to hold any out.
    """

    def __init__(
        self,
        episodes: Episodes,
        robot: Robot,
        *,
        hold_out: bool,
        options: Mapping[str, Any],
        rollout: Mapping[str, Any],
        target_return: int | float | None,
        seed: int,
        path: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(batch_size=options["batch_size"], eval_batch_size=options["eval_batch_size"], seed=seed)
        _check(options, rollout)
        self.robot, self.K, self.scale = robot, int(options["context"]), float(options["scale"])
        self.sampling, self.observe = options["sampling"], options["observe"]
        self.all_returns, self.all_lengths = episodes.returns, episodes.lengths
        parts = {}
        if hold_out:
            if len(episodes) < 3:
                reason = f"has {len(episodes)} complete episodes, and three are needed: to train on, for val, for test"
                raise DatasetError(path, reason, "raise task.data.surrogate.steps")
            parts = dict(zip(("val", "test"), held_out(len(episodes)), strict=True))
        kept = np.setdiff1d(np.arange(len(episodes)), np.concatenate([[], *parts.values()]))
        self.episodes = episodes.select(kept) if hold_out else episodes
        self.held_out = episodes.select(np.sort(np.concatenate(list(parts.values())))) if hold_out else None
        width = robot.positions if self.observe == "positions" else robot.observations
        self.standardise = Standardiser.fit(self.episodes.observations, width)
        self.cutters = {
            split: WindowCutter(part, self.standardise, length=self.K, scale=self.scale)
            for split, part in {"train": self.episodes, **{k: episodes.select(v) for k, v in parts.items()}}.items()
        }
        self._tiles = {split: self.cutters[split].tiles() for split in parts}
        # Without held-out windows an evaluation is at least one episode: a split with no item has no score at all.
        self._n = {split: max(int(rollout[f"{split}_episodes"]), split not in parts) for split in FIRST_SEED}
        windows = {split: len(self._tiles.get(split, ())) for split in FIRST_SEED}
        self.sizes = {"train": len(self.episodes.rewards)} | {s: self._n[s] + windows[s] for s in FIRST_SEED}
        self.target_return, self.target_rule = self._target(rollout["target_return"], target_return)
        self.path, self.metadata = path, dict(metadata or {})

    @property
    def mean_return(self) -> float:
        """Of all episodes."""
        return float(self.all_returns.mean())

    @property
    def state_mean(self) -> np.ndarray:
        """[n] float32."""
        return self.standardise.mean

    @property
    def state_std(self) -> np.ndarray:
        """[n] float32, the floor included."""
        return self.standardise.std

    @property
    def n_states(self) -> int:
        """n: how many dimensions of an observation the model sees."""
        return len(self.standardise.mean)

    def batch(self, split: str, indices: np.ndarray) -> Windows | EvalEpisodes:
        """Windows at `indices`; for val and test, the first items are episodes to roll out instead.

        A training index is the flat step a window begins at.
        """
        if split == "train":
            return self.cutters["train"].cut(indices)
        if indices[0] < self._n[split]:
            return EvalEpisodes(torch.from_numpy(FIRST_SEED[split] + indices))
        return self.cutters[split].cut(self._tiles[split][indices - self._n[split]])

    def train_batches(self, epoch: int) -> list[np.ndarray]:
        """Windows drawn with replacement, so that few episodes serve any batch size."""
        rng = np.random.default_rng([self.seed, epoch])
        return list(self.cutters["train"].draw(rng, (STEPS_PER_EPOCH, self.batch_size), self.sampling))

    def eval_batches(self, split: str) -> list[np.ndarray]:
        """All episodes to roll out in one batch, in lock-step; then the held-out windows, every step once."""
        windows = np.arange(self._n[split], self.sizes[split])
        chunks = np.split(windows, np.arange(self.eval_batch_size, len(windows), self.eval_batch_size))
        return [batch for batch in (np.arange(self._n[split]), *chunks) if len(batch)]

    def facts(self) -> dict[str, Any]:
        """What the data are, for the record: plain JSON values."""
        returns = self.all_returns
        spread = {"mean": returns.mean(), "std": returns.std(), "min": returns.min(), "max": returns.max()}
        return {
            "file": Path(self.path).name,
            "metadata": self.metadata,
            "episodes": len(returns),
            "steps": int(self.all_lengths.sum()),
            "held_out_episodes": 0 if self.held_out is None else len(self.held_out),
            "return": {name: float(value) for name, value in spread.items()},
        }

    def _target(self, asked: int | float | None, own: int | float | None) -> tuple[float, str]:
        if asked is not None:
            return float(asked), "task.rollout.target_return"
        if own is not None:
            return float(own), "the dataset's config"
        return float(self.episodes.returns.max()), "the best return in the training episodes"


def _check(options: Mapping[str, Any], rollout: Mapping[str, Any]) -> None:
    for option, known in (("sampling", SAMPLING), ("observe", OBSERVE)):
        if options[option] not in known:
            raise ConfigError(f"task.data.{option}", options[option], f"choose one of {', '.join(known)}")
    counts = [("task.data.context", options["context"], 1)]
    counts += [(f"task.rollout.{split}_episodes", rollout[f"{split}_episodes"], 0) for split in FIRST_SEED]
    for option, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(option, value, f"must be a whole number, at least {least}")
    if not 0 < options["scale"] < float("inf"):
        raise ConfigError("task.data.scale", options["scale"], "returns are divided by it: it must be positive")
    target = rollout["target_return"]
    if target is not None and not np.isfinite(target):
        raise ConfigError("task.rollout.target_return", target, "must be a finite number, or null for the set's own")


def load(cfg: Mapping[str, Any], resolved: Resolved) -> RLData:
    """The data of a job: D4RL's own file, or a surrogate, which is made first where it is not there yet.

    Raises:
        ConfigError: an option that the data cannot serve.
        DatasetError: a bad file, or too few episodes.
    """
    options, rollout = cfg["task"]["data"], cfg["task"]["rollout"]
    robot = robot_of(resolved.dataset)
    official = resolved.variant == "official"
    metadata: dict[str, Any] = {}
    if official:
        path = resolved.files["trajectories"]
        episodes = as_episodes(load_cached(resolved, parse, PARSE_VERSION))
    else:
        from tasks.rl.surrogate import surrogate_file

        made = options["surrogate"]
        dataset = f"{robot.name}-{tier_of(resolved.dataset)}"
        path = surrogate_file(dataset, steps=made["steps"], seed=made["seed"], source=made["source"])
        try:
            episodes, metadata = read_episodes(path, robot), read_metadata(path)
        except DatasetError as error:
            raise DatasetError(error.path, error.reason, "delete it: it is made anew when it is needed") from error
    return RLData(
        episodes,
        robot,
        hold_out=not official,
        options=options,
        rollout=rollout,
        target_return=cfg["dataset"].get("target_return") if official else None,
        seed=cfg["seed"],
        path=str(path),
        metadata=metadata,
    )
