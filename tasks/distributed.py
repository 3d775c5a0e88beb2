"""One large job on several processes of a machine (Lightning's DDP): each takes its share of every batch.

The batches stay those of (seed, step) and the gradient that of the whole batch, however unequal the shares are, so
that `devices` is no part of a job's identity: without dropout the weights agree within rounding. With dropout each
process draws masks of its own: the same distribution, other numbers, as between a CPU and a GPU.
"""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException
from torchmetrics import Metric

from tasks.errors import ConfigError


class Share(NamedTuple):
    """A process's part of a training batch; `counted` is 0 where there was no item for it, and it holds another's."""

    batch: Any
    counted: Tensor


def share_of(indices: np.ndarray, rank: int, processes: int) -> tuple[np.ndarray, float]:
    """Every `processes`-th index from `rank` on, and 1; of a batch too small for all, its first index and 0."""
    mine = indices[rank::processes]
    return (mine, 1.0) if len(mine) else (indices[:1], 0.0)


def my_share(indices: np.ndarray, batch: Callable[[np.ndarray], Any]) -> Share:
    """This process's part of the batch at `indices`."""
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    mine, counted = share_of(indices, rank, processes)
    return Share(batch(mine), torch.tensor(counted))


def loss_of_all(loss: Tensor, terms: Tensor | None, counted: Tensor) -> tuple[Tensor, float]:
    """The loss to go back from, whose mean over processes is the whole batch's, and the whole batch's value.

    Args:
        loss: of this process's share.
        terms: how many terms it is the mean of; None for a sum.
        counted: 0 for a share that another process has.
    """
    processes = torch.distributed.get_world_size()
    if terms is None:
        mine = loss * counted * processes
    else:
        own = terms.to(loss.device, torch.float64) * counted
        whole = own.clone()
        torch.distributed.all_reduce(whole)
        mine = loss * (own * processes / whole).to(loss.dtype)
    value = mine.detach().double().clone()
    torch.distributed.all_reduce(value)
    return mine, float(value) / processes


def check_devices(devices: Any, device: str, divisible: bool, name: str) -> int:
    """The number of processes.

    Raises:
        ConfigError: not a number, more than there are GPUs, or a loss that cannot be shared out.
    """
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ConfigError("devices", devices, "a number of processes, at least 1")
    if devices == 1:
        return 1
    if not divisible:
        raise ConfigError("devices", devices, f"the loss of {name} is not a sum over items; use devices=1")
    if device != "cpu" and torch.cuda.is_available() and torch.cuda.device_count() < devices:
        reason = f"torch sees {torch.cuda.device_count()} GPU(s) here; use as many, or one"
        raise ConfigError("devices", devices, reason)
    return devices


def strategy(accelerator: str) -> Strategy:
    """DDP in processes of their own, whatever started this one: a script, a launcher's worker, a test."""
    return DDPStrategy(start_method="spawn", process_group_backend="gloo" if accelerator == "cpu" else "nccl")


class InEachProcess(Callback):
    """Gives a new process what the first one has: its threads, its filters of warnings, its log."""

    def __init__(self, messages: tuple[str, ...]) -> None:
        self.messages, self.threads = messages, torch.get_num_threads()

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        torch.set_num_threads(self.threads)
        for message in self.messages:
            warnings.filterwarnings("ignore", message=message)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        for module in pl_module.modules():
            if isinstance(module, Metric):
                # Each process scores every item: the sums must not be added up, nor lie in memory that all share.
                module.sync_on_compute = module._to_sync = False
                module.reset()
        if trainer.is_global_zero:
            logging.basicConfig(format="%(message)s")
            logging.getLogger("tasks").setLevel(logging.INFO)


def fit(trainer: lightning.Trainer, task: Any, **options: Any) -> None:
    """`trainer.fit`; no process outlives it, and what one of them raised is raised here.

    Raises:
        TrainingDiverged: as without processes.
    """
    from tasks.task import TrainingDiverged

    try:
        trainer.fit(task, **options)
    except ProcessRaisedException as error:
        name, _, message = str(error).strip().splitlines()[-1].partition(": ")
        if name.endswith(TrainingDiverged.__name__):
            raise TrainingDiverged(message) from error
        raise
    except BaseException:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)
        raise
