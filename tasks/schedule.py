"""Optimisers and learning-rate schedules by name, counted in optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tasks.errors import ConfigError

OPTIMISERS = ("adam", "adamw", "radam")
SCHEDULES = ("constant", "cosine", "type1")


def make_optimiser(parameters: Iterable[nn.Parameter], optim: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser that `task.optim` describes: name, lr, weight_decay, betas, eps.

    Raises:
        ConfigError: an unknown name, or a learning rate that is not positive.
    """
    name, lr = optim["name"], float(optim["lr"])
    if not (math.isfinite(lr) and lr > 0):
        raise ConfigError("task.optim.lr", lr, "a learning rate must be a positive number")
    options: dict[str, Any] = {
        "lr": lr,
        "weight_decay": float(optim.get("weight_decay", 0.0)),
        "betas": tuple(optim.get("betas", (0.9, 0.999))),
        "eps": float(optim.get("eps", 1e-8)),
    }
    if name == "adam":
        return torch.optim.Adam(parameters, fused=True, **options)
    if name == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **options)
    if name == "radam":
        return torch.optim.RAdam(parameters, **options)
    raise ConfigError("task.optim.name", name, f"choose one of {', '.join(OPTIMISERS)}")


def learning_rate_factor(optim: Mapping[str, Any], *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """What the base learning rate is multiplied by at each optimiser step.

    `warmup_steps` rises linearly to 1 first.  Then `constant`; `cosine` falls to 0 at `total_steps`; `type1`
    (the forecasting base code's name) is 1 for two epochs, then halves with every epoch.

    Raises:
        ConfigError: an unknown schedule or a negative warm-up.
    """
    schedule, warmup = optim.get("schedule", "constant"), int(optim.get("warmup_steps", 0))
    if schedule not in SCHEDULES:
        raise ConfigError("task.optim.schedule", schedule, f"choose one of {', '.join(SCHEDULES)}")
    if warmup < 0:
        raise ConfigError("task.optim.warmup_steps", warmup, "a number of steps cannot be negative")

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if schedule == "cosine":
            progress = min(1.0, max(0, step - warmup) / max(1, total_steps - warmup))
            return rise * 0.5 * (1.0 + math.cos(math.pi * progress))
        if schedule == "type1":
            return rise * 0.5 ** max(0, step // steps_per_epoch - 1)
        return rise

    return factor
