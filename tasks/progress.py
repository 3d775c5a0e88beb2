"""What a person sees of a running job, and the heartbeat that tells others how far it is."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

import lightning
import psutil
from lightning.pytorch.callbacks import Callback, RichProgressBar

from tasks.errors import ConfigError
from tasks.suite.locks import REPRODUCER, Heartbeat

log = logging.getLogger(__name__)

STYLES = ("auto", "bar", "lines", "none")


def progress_callbacks(style: str, name: str, heartbeat: Heartbeat | None) -> tuple[list[Callback], bool]:
    """The callbacks for `progress=style`, and whether one of them is a bar.

    Raises:
        ConfigError: an unknown style.
    """
    if style not in STYLES:
        raise ConfigError("progress", style, f"choose one of {', '.join(STYLES)}")
    bar = style == "bar" or (style == "auto" and sys.stderr.isatty())
    shown: list[Callback] = []
    if bar:
        shown = [RichProgressBar(leave=False)]
    elif style != "none":
        shown = [PlainProgress(name)]
    return [*shown, *([Beat(heartbeat)] if heartbeat else [])], bar


class PlainProgress(Callback):
    """One line a round, for logs and files: step, losses, time left."""

    def __init__(self, name: str) -> None:
        self.name, self._first_step, self._start = name, 0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._first_step, self._start = trainer.global_step, time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        done, total = trainer.global_step, pl_module.total_steps
        per_step = (time.monotonic() - self._start) / max(1, done - self._first_step)
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if "/" in k}
        shown = "  ".join(f"{key} {value:.4g}" for key, value in sorted(scores.items()))
        log.info("%s  step %d/%d  %s  %.0f s left", self.name, done, total, shown, per_step * (total - done))


class Beat(Callback):
    """Writes the heartbeat, at most once a second, and stops a job that `make reproduce` started and left behind."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self.heartbeat, self._owner, self._next = heartbeat, os.environ.get(REPRODUCER), 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.heartbeat.beat(trainer.global_step, pl_module.total_steps)
        if self._owner is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            if not psutil.pid_exists(int(self._owner)):
                # It would hold the job's lock against the `make reproduce` that comes to go on with it.
                raise SystemExit("the process that started this job is gone")
