"""What the four families share: one LightningModule around one backbone.

A family says what its loss is and how it scores; the base does the optimiser, the schedule, logging, the
history of the run, and randomness that depends on (seed, step) alone, which makes a resume exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor

from tasks.batches import TaskData
from tasks.distributed import Share, loss_of_all
from tasks.schedule import learning_rate_factor, make_optimiser

__all__ = ["Measure", "Selection", "Task", "TaskData", "TrainingDiverged"]


class Measure(NamedTuple):
    """One metric: its value, over how many scored items, in which unit, and which way is better."""

    value: float
    n: int
    unit: str
    higher_is_better: bool


class Selection(NamedTuple):
    """Which checkpoint is scored: the best by `metric` on `split`; `note` says what a reader must know.

    Mode "last": the weights after the last update, whatever their score.
    """

    split: str
    metric: str
    mode: str  # "min", "max" or "last"
    note: str = ""


class TrainingDiverged(RuntimeError):
    """The loss, or the norm of the gradients, is not a finite number."""


class Task(lightning.LightningModule):
    """Base of the families' task models.

    Args:
        optim: name, lr, weight_decay, betas, eps, clip, warmup_steps, schedule (see `tasks.schedule`).
        seed: the job's seed.
    """

    selection: ClassVar[Selection]
    # Whether several processes can share a batch: the loss is a sum over items, or the mean of `loss_terms`.
    divisible: ClassVar[bool] = False

    def __init__(self, *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.optim, self.seed = dict(optim), seed
        self.total_steps, self.steps_per_epoch = 0, 1
        self.measures: dict[str, dict[str, Measure]] = {}
        self.history: list[dict[str, float]] = []
        self._round_loss: list[float] = []
        # What the job is at, and the batch of its round: what a failure is recorded with.
        self.where: tuple[str, int | None] = ("the start", None)

    def training_loss(self, batch: Any) -> Tensor:
        """The scalar to minimise on a batch."""
        raise NotImplementedError(f"{type(self).__name__} must define training_loss(batch)")

    def loss_terms(self, batch: Any) -> Tensor | None:
        """How many terms the loss of a batch is the mean of; None for a sum. Asked only of a `divisible` task."""
        raise NotImplementedError(f"{type(self).__name__} must define loss_terms(batch)")

    def update_metrics(self, split: str, batch: Any) -> None:
        """Score one batch of `split` ("val" or "test") into running sums."""
        raise NotImplementedError(f"{type(self).__name__} must define update_metrics(split, batch)")

    def compute_metrics(self, split: str) -> dict[str, Measure]:
        """The metrics of a split from the running sums, which it resets."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_metrics(split)")

    def artefacts(self, data: TaskData) -> dict[str, Any]:
        """What else belongs into the record (plain JSON values), made once with the selected weights."""
        return {}

    def plan_steps(self, *, total_steps: int, steps_per_epoch: int) -> None:
        """How long the run is: what a schedule is counted in."""
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch

    def configure_optimizers(self) -> Any:
        optimiser = make_optimiser(self.parameters(), self.optim)
        factor = learning_rate_factor(self.optim, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.where = ("training", batch_idx)
        # Dropout of step k is the same whether or not the run was interrupted before it.
        own = [self.global_rank] if self.global_rank else []
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.global_step, *own]).generate_state(1)[0]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, Share):
            terms = self.loss_terms(batch.batch)
            loss, value = loss_of_all(self.training_loss(batch.batch), terms, batch.counted)
        else:
            loss = self.training_loss(batch)
            value = float(loss.detach())
        self._check_finite("training loss", value)
        self._round_loss.append(value)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Clips as Lightning does, by the norm, which Lightning throws away: one that is not finite makes every weight
        # a NaN, and the loss of the last step would not show it.
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if gradient_clip_val:
            norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self._check_finite("norm of the gradients", float(norm))

    def _check_finite(self, name: str, value: float) -> None:
        if not np.isfinite(value):
            raise TrainingDiverged(
                f"{name} is {value} at step {self.global_step} (batch {self.where[1]} of its round); "
                "lower task.optim.lr, or set task.optim.clip"
            )

    def on_validation_start(self) -> None:
        self.where = ("validation", None)

    def on_test_start(self) -> None:
        self.where = ("test", None)

    def on_validation_epoch_end(self) -> None:
        self._finish_split("val")
        if self._round_loss:
            train_loss = float(np.mean(self._round_loss))
            self._round_loss.clear()
            scores = {f"val/{name}": m.value for name, m in self.measures["val"].items()}
            self.history.append({"step": int(self.global_step), "train/loss": train_loss, **scores})
            self.log("train/loss", train_loss)

    def on_test_epoch_end(self) -> None:
        self._finish_split("test")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.update_metrics("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.update_metrics("test", batch)

    def _finish_split(self, split: str) -> None:
        self.measures[split] = self.compute_metrics(split)
        for name, measure in self.measures[split].items():
            # As float64: a Python number would be rounded to float32, and near ties then decide by order.
            self.log(f"{split}/{name}", torch.tensor(measure.value, dtype=torch.float64))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Plain numbers only: a checkpoint must load with weights_only=True.
        checkpoint["stopped"] = bool(self.trainer.should_stop)
        checkpoint["history"] = [dict(row) for row in self.history]
        checkpoint["measures"] = {
            split: {name: list(measure) for name, measure in measures.items()}
            for split, measures in self.measures.items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = [dict(row) for row in checkpoint["history"]]
        self.measures = saved_measures(checkpoint)


def saved_measures(checkpoint: Mapping[str, Any]) -> dict[str, dict[str, Measure]]:
    """The measures that `Task.on_save_checkpoint` put into a checkpoint: split -> name -> Measure."""
    return {
        split: {name: Measure(*measure) for name, measure in measures.items()}
        for split, measures in checkpoint["measures"].items()
    }
