"""Train, select, score: the one loop of all families, on Lightning, resumable from its last round."""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping

from tasks.checkpoint_io import AtomicCheckpointIO
from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.distributed import InEachProcess, check_devices, fit, strategy
from tasks.errors import ConfigError
from tasks.portable import PortableCheckpoint
from tasks.suite.atomic import write_atomic
from tasks.task import Selection, Task, TaskData, saved_measures

log = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
# What Lightning warns of and we mean: one line each, with why.
MEANT = (
    r".*does not have many workers.*",  # a batch is one gather from memory; workers would only copy it
    r".*number of training batches.*smaller than the logging interval.*",  # we log a round at a time
    r".*Checkpoint directory .* exists and is not empty.*",  # that is how a job resumes
    r".*GPU available but not used.*",  # device=cpu was asked for
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # inside Lightning, against torch 2.13
    r".*You have overridden `on_.*_checkpoint`.*",
    r".*It is recommended to use `self.log.*sync_dist=True.*",  # every process scores all items: one score
)


@dataclass(frozen=True)
class Budget:
    """How long a job trains: `rounds` of `steps_per_round` optimiser steps, a validation after each."""

    rounds: int
    steps_per_round: int
    patience: int | None

    @property
    def steps(self) -> int:
        """All optimiser steps, if nothing stops the job early."""
        return self.rounds * self.steps_per_round


def plan_budget(budget: Mapping[str, Any], steps_per_epoch: int) -> Budget:
    """A budget from `task.budget`: `max_steps` or `max_epochs`, `eval_every` (steps, or null for an epoch), `patience`.

    The rounds are made equal, so the last one may run a few steps past `max_steps`.

    Raises:
        ConfigError: neither or both limits, or a number below 1.
    """
    max_steps, max_epochs = budget.get("max_steps"), budget.get("max_epochs")
    if (max_steps is None) == (max_epochs is None):
        raise ConfigError("task.budget", dict(budget), "give either max_steps or max_epochs, the other null")
    for option in ("max_steps", "max_epochs", "eval_every", "patience"):
        value = budget.get(option)
        if value is not None and int(value) < 1:
            raise ConfigError(f"task.budget.{option}", value, "must be at least 1, or null")
    steps = int(max_steps) if max_steps is not None else int(max_epochs or 1) * steps_per_epoch
    every = min(steps, int(budget.get("eval_every") or steps_per_epoch))
    rounds = max(1, round(steps / every))
    return Budget(rounds, math.ceil(steps / rounds), budget.get("patience"))


def train_and_score(
    task: Task,
    data: TaskData,
    *,
    budget: Budget | None,
    folder: Path,
    device: str = "cpu",
    devices: int = 1,
    callbacks: Sequence[Callback] = (),
    logger: Any = False,
    progress_bar: bool = False,
) -> dict[str, Any]:
    """Fit within `budget` (None: nothing to train), load the selected weights, score val and test once.

    A `last.ckpt` in `folder` is gone on from; the weights that were scored stay there as `best.ckpt`.  Returns the
    record's metrics, selection, and weights hash.  With `devices` > 1 as many processes train, each on its share of
    every batch, and this one scores.

    Raises:
        TrainingDiverged: the loss or the norm of the gradients is not finite.
        WriteError: a checkpoint cannot be written.
        ConfigError: devices that are not there or cannot share the loss, or patience where no score selects.
    """
    for message in MEANT:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    selection = task.selection
    # After what picks the best, so that it holds what that has seen: a kill between the two repeats one round, with
    # one outcome.
    last = PortableCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    accelerator = _accelerator(device)
    several = budget is not None and check_devices(devices, device, task.divisible, type(task).__name__) > 1

    def trainer(*callbacks: Callback, **options: Any) -> lightning.Trainer:
        return lightning.Trainer(
            accelerator=accelerator,
            max_epochs=budget.rounds if budget else 0,
            gradient_clip_val=task.optim.get("clip"),
            callbacks=list(callbacks),
            # Not SLURM's, which would take a job of one task for one rank of many.
            plugins=[AtomicCheckpointIO(), LightningEnvironment()],
            num_sanity_val_steps=0,
            enable_model_summary=False,
            log_every_n_steps=10,
            default_root_dir=folder,
            use_distributed_sampler=False,
            **options,
        )

    keeping = [*callbacks, *_selecting(selection, budget, folder), last]
    one = trainer(*([] if several else keeping), devices=1, logger=logger, enable_progress_bar=progress_bar)
    selected: dict[str, Any] = {
        "split": selection.split,
        "metric": selection.note or selection.metric,
        "mode": selection.mode,
    }
    if budget is not None:
        data.steps_per_round = budget.steps_per_round
        task.plan_steps(total_steps=budget.steps, steps_per_epoch=data.steps_per_epoch)
        if several:
            data.processes = devices
            among = {"devices": devices, "strategy": strategy(accelerator), "logger": False}
            many = trainer(InEachProcess(MEANT), *keeping, enable_progress_bar=progress_bar, **among)
            _fit(many, task, data, folder)
            task.on_load_checkpoint(read_checkpoint(folder / LAST))
            for row in task.history if logger else ():
                logger.log_metrics({name: value for name, value in row.items() if name != "step"}, step=row["step"])
        else:
            _fit(one, task, data, folder)
        if selection.mode == "last":
            write_atomic(folder / BEST, (folder / LAST).read_bytes())
        chosen = read_checkpoint(folder / BEST)
        task.load_state_dict(chosen["state_dict"])
        task.measures = saved_measures(chosen)
        score = task.measures[selection.split].get(selection.metric)
        selected |= {"step": int(chosen["global_step"]), "value": score.value if score is not None else None}
    else:
        one.validate(task, datamodule=data, verbose=False)
    one.test(task, datamodule=data, verbose=False)
    return {
        "metrics": {split: dict(task.measures[split]) for split in ("val", "test")},
        "selection": selected,
        "weights_sha256": weights_sha256(task) if budget is not None else None,
        "parameters": sum(p.numel() for p in task.parameters()),
    }


def _selecting(selection: Selection, budget: Budget | None, folder: Path) -> list[Callback]:
    """What keeps the best weights by the rule and stops early; nothing where the last update's are the result."""
    patience = budget.patience if budget is not None else None
    if selection.mode == "last":
        if patience is not None:
            reason = "no score selects here, the weights after the last update are the result; leave it null"
            raise ConfigError("task.budget.patience", patience, reason)
        return []
    monitor = f"{selection.split}/{selection.metric}"
    stop = [EarlyStopping(monitor, mode=selection.mode, patience=patience, check_finite=False)] if patience else []
    best = PortableCheckpoint(
        folder,
        "best",
        monitor=monitor,
        mode=selection.mode,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [*stop, best]


def _fit(trainer: lightning.Trainer, task: Task, data: TaskData, folder: Path) -> None:
    resume = _readable_checkpoint(folder / LAST)
    if resume is not None and resume["stopped"]:  # killed after it had stopped early, before it was scored
        task.on_load_checkpoint(resume)
        return
    if resume is not None:
        log.info("resuming after step %d of %d", resume["global_step"], task.total_steps)
    fit(trainer, task, datamodule=data, ckpt_path=folder / LAST if resume is not None else None, weights_only=True)


def _readable_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`; None if there is none or it is damaged (it is then set aside, and said)."""
    if not path.exists():
        return None
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        log.warning("%s cannot be read (%s); kept as %s, training starts anew", path.name, error, aside.name)
        return None


def weights_sha256(task: torch.nn.Module) -> str:
    """SHA-256 over every parameter and buffer: name, dtype, shape and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(task.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _accelerator(device: str) -> str:
    if device == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("device", device, "no CUDA device is visible to torch here; use device=cpu")
        return "gpu"
    if device != "cpu":
        raise ConfigError("device", device, "choose one of cpu, cuda, auto")
    return "cpu"
