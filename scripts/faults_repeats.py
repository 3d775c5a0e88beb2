"""Determinism: the same job again, and interrupted within a round and at its end, to the last bit."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from faults_common import Part
from faults_trials import MODELS, SETS, TWELVE, Config, smoke_job

EVERY = int(TWELVE[1].partition("=")[2])  # steps of a round


class Interrupted(Exception):
    """What ends a job in the middle; not the user's Ctrl-C, which Lightning answers by leaving Ctrl-C switched off."""


def repeats(part: Part) -> bool:
    """Every family and both models: a rerun and a run interrupted twice against an undisturbed one."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        for family, model in itertools.product(SETS, MODELS):
            if any((row["family"], row["model"]) == (family, model) for row in part.seen):
                continue
            found = compare(smoke_job(*SETS[family], f"model={model}"), folder / f"{family}-{model}")
            facts: dict[str, Any] = {"family": family, "model": model} | {k: int(v) for k, v in found.items()}
            part.add(all(found.values()), **facts)
            print(part.seen[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    columns = ("rerun", "mid_round", "boundary")
    return part.finish(**{name: sum(int(row[name]) for row in part.seen) for name in columns}, of=len(part.seen))


def compare(cfg: Config, folder: Path) -> dict[str, bool]:
    """Whether a rerun, a run resumed from within a round, and one resumed from a round's end equal the whole run.

    Equal: metrics, selection, the weights' hash and every number that the record keeps of the way there.  And a resume
    must have gone on from its last round, not begun anew.
    """
    from tasks.job import run_job
    from tasks.suite import records

    def numbers(record: dict[str, Any]) -> str:
        return json.dumps([records.outcome(record), record["artefacts"]], sort_keys=True)

    cfg = {**cfg, "runs_dir": str(folder / "whole")}
    with steps_taken() as taken:
        whole = numbers(run_job(cfg))
    found = {"rerun": numbers(run_job({**cfg, "force": True})) == whole}
    for name, step in (("mid_round", EVERY + 2), ("boundary", 2 * EVERY)):
        broken = {**cfg, "runs_dir": str(folder / name)}
        with steps_taken(step) as before, suppress(Interrupted):
            run_job(broken)
        assert before == taken[:step], "nothing was interrupted"
        with steps_taken() as after:
            resumed = numbers(run_job(broken))
        found[name] = resumed == whole and after == taken[step // EVERY * EVERY :]
    return found


@contextmanager
def steps_taken(stop: int | None = None) -> Iterator[list[int]]:
    """Which optimiser steps, counted from 0, are taken inside; before step `stop` the job raises Interrupted."""
    from tasks.task import Task

    original, taken = Task.training_step, list[int]()

    def stepped(self: Task, batch: Any, batch_idx: int) -> Any:
        if self.global_step == stop:
            raise Interrupted(f"before step {stop}")
        taken.append(int(self.global_step))
        return original(self, batch, batch_idx)

    Task.training_step = stepped
    try:
        yield taken
    finally:
        Task.training_step = original
