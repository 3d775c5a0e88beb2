"""Weights & Biases as a mirror of the records: one run a job, offline unless you are logged in."""

from __future__ import annotations

import contextlib
import netrc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from tasks.errors import ConfigError

MODES = ("auto", "online", "offline")


def logged_in() -> bool:
    """Whether W&B would find a key: WANDB_API_KEY, or an entry for its host in the user's netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@contextlib.contextmanager
def tracked(
    logger: Mapping[str, Any], *, run_id: str, cfg: Mapping[str, Any], label: str, folder: Path
) -> Iterator[Any]:
    """A Lightning logger for one job, or False; finished on the way out, so that the next job gets a run of its own.

    Args:
        logger: the `logger` group of the config.
        run_id: the W&B run's id too, so that a resumed or mirrored job is one run there.
        cfg: the job's semantic config, shown in W&B.
        label: the dataset as printed.
        folder: where offline runs are kept.

    Raises:
        ConfigError: an unknown logger or mode.
    """
    if logger["name"] == "none":
        yield False
        return
    if logger["name"] != "wandb":
        raise ConfigError("logger", logger["name"], "choose wandb or none")
    mode = logger.get("mode", "auto")
    if mode not in MODES:
        raise ConfigError("logger.mode", mode, f"choose one of {', '.join(MODES)}")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    offline = mode == "offline" or (mode == "auto" and not logged_in())
    folder.mkdir(parents=True, exist_ok=True)
    tracker = WandbLogger(
        name=run_id,
        id=run_id,
        version=run_id,
        project=logger["project"],
        entity=logger.get("entity"),
        save_dir=folder,
        offline=offline,
        group=f"{cfg['task']['family']}/{label}/{cfg['model']['name']}",
        tags=[cfg["task"]["family"], label, cfg["model"]["name"], cfg["profile"], cfg["protocol"]],
        config=dict(cfg),
        # A job's console, git patch and machine are in its record, by allow-list; W&B gets the curves.
        settings=wandb.Settings(
            console="off", disable_git=True, save_code=False, x_disable_meta=True, x_disable_stats=True, silent=True
        ),
    )
    code = 1
    try:
        yield tracker
        code = 0
    finally:
        wandb.finish(exit_code=code)
