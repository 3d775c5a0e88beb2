"""Soaks: memory of a stream that is fed for minutes, and of a training that goes on for minutes.

Resident memory is read about once a second; the first tenth of the time is warm-up.  Flat: no later reading is more
than one per cent above the median of the first tenth of the readings after it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import count
from typing import Any

import psutil
from faults_common import Part, smoke_job

TOLERANCE = 0.01
FEW, BURST = 4, 200  # streams; tokens between two looks at the clock


class Watch:
    """Reads resident memory about once a second into a part's rows until `seconds` are over."""

    def __init__(self, part: Part, seconds: float) -> None:
        self.part, self.seconds = part, seconds
        self.started = self.last = 0.0
        self.process, self.rows = psutil.Process(), list[tuple[float, int, int]]()

    def look(self, done: int) -> bool:
        """Note memory and how much was done; whether the time is up."""
        now = time.monotonic()
        self.started = self.started or now  # the first look: what was imported and compiled before is no soak
        if now - self.last >= 1:
            self.last = now
            self.rows.append((now - self.started, self.process.memory_info().rss, done))
        return now - self.started >= self.seconds

    def finish(self, **figures: Any) -> bool:
        """Keep the readings, each passed or not, and how far they are from the first after the warm-up."""
        after = [row for row in self.rows if row[0] >= self.seconds / 10]
        tenth = -(-len(after) // 10)
        first = statistics.median(rss for _, rss, _ in after[:tenth])
        for t, rss, done in self.rows:
            flat = t < self.seconds / 10 or rss <= (1 + TOLERANCE) * first
            self.part.add(flat, seconds=round(t, 1), rss_bytes=rss, done=done, save=False)
        growth = max(rss for _, rss, _ in after) / first - 1
        drift = statistics.median(rss for _, rss, _ in after[-tenth:]) / first - 1
        memory = {"rss_bytes": int(first), "largest_growth": round(growth, 5), "drift_at_the_end": round(drift, 5)}
        return self.part.finish(minutes=round(self.seconds / 60, 2), done=self.rows[-1][2], **memory, **figures)


def stream(part: Part, minutes: float) -> bool:
    """Tokens through the stream of a two-layer Aaren; its outputs are finite and its state is of one size."""
    import torch

    from aaren import Backbone
    from aaren.stream import Stream

    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = Backbone(attention="aaren", d_model=64, n_layers=2, n_heads=4, d_ff=128).eval()
    fed, tokens = Stream(backbone, FEW), torch.randn(997, FEW, 64)
    watch, sizes = Watch(part, 60 * minutes), set[int]()
    for burst in count():
        for step in range(burst * BURST, (burst + 1) * BURST):
            out = fed(tokens[step % len(tokens)])
        sizes.add(fed.nbytes)
        assert out.isfinite().all(), "an output is not a finite number"
        if watch.look((burst + 1) * BURST):
            break
    assert len(sizes) == 1, "the state has changed its size"
    return watch.finish(streams=FEW, state_bytes=sizes.pop())


def train(part: Part, minutes: float) -> bool:
    """A job that trains, validates and writes checkpoints until the time is up: Lightning, data, heartbeat and all."""
    from tasks import job
    from tasks.task import Task

    watch = Watch(part, 60 * minutes)

    class Over(Exception):
        """The time is up."""

    original = Task.on_train_batch_start

    def looked(self: Task, batch: Any, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        if watch.look(int(self.global_step)):
            raise Over

    Task.on_train_batch_start = looked
    endless = ("task.budget.max_steps=100000000", "task.budget.eval_every=200")
    try:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            job.run_job(smoke_job("dataset=JapaneseVowels", "model=aaren", *endless, f"runs_dir={folder}"))
    except Over:
        pass
    finally:
        Task.on_train_batch_start = original
    return watch.finish(unit="optimiser steps")
