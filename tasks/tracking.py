"""Weights & Biases as a mirror of the records: one run a job, offline unless you are logged in."""

from __future__ import annotations

import contextlib
import logging
import netrc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.errors import ConfigError

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline")
PUBLIC = ("api.forge.coreweave.com", "api.wandb.ai")  # W&B's server since 0.31, and the name that keys are kept under
STEP = "trainer/global_step"  # what every curve is drawn over, as Lightning's logger names it
LONGEST_TAG = 64  # W&B refuses longer ones
INIT_SECONDS = 30.0  # a server that has not answered by then is taken for unreachable
LOGIN = "run 'wandb login', or set WANDB_API_KEY"
OFFLINE = "logger=none or logger.mode=offline trains without it, and 'make wandb-sync' mirrors the records later"


def logged_in() -> bool:
    """Whether W&B would find a key: WANDB_API_KEY, or an entry for its server in the user's netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        entries = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entries.authenticators(name) is not None for name in (host(), *_also_known_as()))


def host() -> str:
    """The W&B server's name: WANDB_BASE_URL's, else the public one's."""
    return urlsplit(os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC[0]}").netloc


def _also_known_as() -> tuple[str, ...]:
    return PUBLIC if host() in PUBLIC else ()


@contextlib.contextmanager
def tracked(
    logger: Mapping[str, Any], *, run_id: str, cfg: Mapping[str, Any], label: str, folder: Path
) -> Iterator[Any]:
    """A Lightning logger for one job, or False; finished on the way out, so that the next job gets a run of its own.

    Args:
        logger: the `logger` group of the config.
        run_id: the W&B run's id too, so that a resumed or mirrored job is one run there.
        cfg: the job's semantic config with its seed and fold, shown in W&B.
        label: the dataset as printed.
        folder: where offline runs are kept.

    With mode auto, a server that does not answer costs a warning, not the job.

    Raises:
        ConfigError: an unknown logger or mode; mode online without a key, or without a server that answers.
    """
    if logger["name"] == "none":
        yield False
        return
    if logger["name"] != "wandb":
        raise ConfigError("logger", logger["name"], "choose wandb or none")
    mode = logger.get("mode", "auto")
    if mode not in MODES:
        raise ConfigError("logger.mode", mode, f"choose one of {', '.join(MODES)}")
    if mode == "online" and not logged_in():
        raise ConfigError(
            "logger.mode", mode, f"no key for {host()}: run 'wandb login' or set WANDB_API_KEY; {OFFLINE}"
        )
    import wandb
    from lightning.pytorch.loggers import WandbLogger
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank != 0:  # of several processes at one job, one tells
        yield False
        return
    where = {"project": logger["project"], "entity": logger.get("entity"), "folder": folder}
    about = describe(cfg, label)
    online = mode == "online" or (mode == "auto" and logged_in())
    try:
        run = start(run_id, about, online=online, resume=online, **where)
    except wandb.Error as error:
        if mode == "online":
            raise ConfigError("logger.mode", mode, f"{host()} cannot be used ({error}); {OFFLINE}") from error
        wandb.teardown()  # the attempt that failed still holds the run's id
        log.warning("W&B's server cannot be used (%s): this run is kept offline; 'make wandb-sync' mirrors it", error)
        run = start(run_id, about, online=False, **where)
    code = 1
    try:
        yield WandbLogger(experiment=run, project=logger["project"], save_dir=folder)
        code = 0
    finally:
        wandb.finish(exit_code=code)


def start(
    run_id: str,
    about: Mapping[str, Any],
    *,
    project: str,
    entity: str | None,
    folder: Path,
    online: bool,
    resume: bool = False,
) -> Any:
    """A W&B run with this id; any run of this process that is still open is finished first.

    Args:
        about: from `describe`: group, job type, tags, config.
        resume: go on with the server's run of that id; else it is written anew, and its old curves are gone.

    Raises:
        wandb.Error: no valid key, or a server that cannot be reached.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        id=run_id,
        name=run_id,
        project=project,
        entity=entity,
        dir=folder,
        mode="online" if online else "offline",
        resume="allow" if resume else None,
        reinit="finish_previous",
        **about,
        # A job's console, git patch and machine are in its record, by allow-list; W&B gets the curves.
        settings=wandb.Settings(
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            silent=True,
            init_timeout=INIT_SECONDS,
        ),
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return run


def describe(cfg: Mapping[str, Any], label: str) -> dict[str, Any]:
    """How a job is filed: group family/dataset, job type model, tags, and a config to group, filter and plot by."""
    family, model = cfg["task"]["family"], cfg["model"]["name"]
    horizon = [] if cfg.get("horizon") is None else [f"horizon {cfg['horizon']}"]
    tags = [family, label, model, cfg["profile"], cfg["protocol"], *horizon]
    return {
        "group": f"{family}/{label}",
        "job_type": model,
        "tags": [tag[:LONGEST_TAG] for tag in dict.fromkeys(tags)],
        "config": {**cfg, "family": family, "label": label, "model_name": model},
    }


def summarise(logger: Any, record: Mapping[str, Any]) -> None:
    """Write the record's numbers into the summary of a run that `tracked` gave (or False), unrounded."""
    if logger is not False:
        logger.experiment.summary.update(summary_of(record))


def summary_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a run's summary: `test/mse`, `val/mse`, ..., and what its cell's provenance says."""
    scores = {
        f"{split}/{name}": measure["value"]
        for split, measures in record["metrics"].items()
        for name, measure in measures.items()
    }
    facts = {key: record[key] for key in ("status", "wall_seconds", "parameters", "weights_sha256")}
    selected = (record["selection"] or {}).get("step")
    return {**scores, **facts, "selected_step": selected, "commit": record["git"]["commit"]}
