"""Offline reinforcement learning: the Decision Transformer on the twelve D4RL locomotion sets and their surrogates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.data import Resolved
    from tasks.rl.data import RLData
    from tasks.task import Task


def load_data(cfg: Mapping[str, Any], resolved: Resolved) -> RLData:
    """The data of a job. Raises DatasetError for bad files, ConfigError for bad options."""
    from tasks.errors import ConfigError
    from tasks.rl.data import load

    if cfg.get("horizon") is not None:
        raise ConfigError("horizon", cfg["horizon"], "reinforcement learning has no horizon; leave it null")
    if cfg.get("fold") is not None:
        raise ConfigError("fold", cfg["fold"], "reinforcement learning has no folds; leave it null")
    _check_rollout(cfg["task"]["rollout"])
    return load(cfg, resolved)


def build_task(cfg: Mapping[str, Any], data: RLData) -> Task:
    """The task model of a job.

    Raises:
        ConfigError: impossible sizes, an unknown attention or trivial model, a mode that the model cannot act in,
            episodes longer than its time embedding.
    """
    from tasks.errors import ConfigError
    from tasks.rl.acting import check_mode
    from tasks.rl.model import DecisionTransformer
    from tasks.rl.task import BehaviourTask, RLTask

    model, task = cfg["model"], cfg["task"]
    rollout, optim, seed = task["rollout"], task["optim"], cfg["seed"]
    if model["attention"] is None:
        if model["name"] != "behaviour":
            raise ConfigError("model", model["name"], "the only trivial model of reinforcement learning is behaviour")
        return BehaviourTask(data, rollout, optim=optim, seed=seed)
    try:
        network = DecisionTransformer(
            observed=data.n_states,
            actions=data.robot.actions,
            state_mean=data.state_mean,
            state_std=data.state_std,
            attention=model["attention"],
            **task["model"],
        )
    except ValueError as error:
        raise ConfigError("task.model", dict(task["model"]), str(error)) from error
    check_mode(network, rollout["mode"], data.K)
    # A window that begins at an episode's last step counts its padding on.
    longest = max(int(data.episodes.lengths.max()), rollout["max_steps"]) + data.K
    if network.timesteps < longest:
        reason = f"episodes of up to {longest - data.K} steps and windows of {data.K} need at least {longest}"
        raise ConfigError("task.model.timesteps", network.timesteps, reason)
    return RLTask(network, data, rollout, optim=optim, seed=seed)


def _check_rollout(rollout: Mapping[str, Any]) -> None:
    """What can be said before any data is read."""
    from tasks.errors import ConfigError

    modes = ("window", "reset", "stream")
    if rollout["mode"] not in modes:
        raise ConfigError("task.rollout.mode", rollout["mode"], f"choose one of {', '.join(modes)}")
    steps = rollout["max_steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ConfigError("task.rollout.max_steps", steps, "must be a whole number, at least 1")
    target = rollout["target_return"]
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | float) or math.isnan(target)):
        raise ConfigError("task.rollout.target_return", target, "must be a number, or null for the set's own")
    if target is not None and math.isinf(target):
        raise ConfigError("task.rollout.target_return", target, "must be finite: the return-to-go is an input")
    if not isinstance(rollout["video"], bool):
        raise ConfigError("task.rollout.video", rollout["video"], "must be true or false")
