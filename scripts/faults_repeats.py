"""Determinism: the same job again, and interrupted within a round and at its end, to the last bit."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults_common import Part
from faults_trials import MODELS, SETS, TWELVE, Config, smoke_job

EVERY = int(TWELVE[1].partition("=")[2])  # steps of a round, three or, where 12 do not divide so, a few more


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

    Equal: metrics, selection, the weights' hash and every number that the record keeps of the way there.
    """
    from tasks.job import run_job

    def numbers(record: dict[str, Any]) -> str:
        from tasks.suite import records

        return json.dumps([records.outcome(record), record["artefacts"]], sort_keys=True)

    cfg = {**cfg, "runs_dir": str(folder / "whole")}
    whole = numbers(run_job(cfg))
    found = {"rerun": numbers(run_job({**cfg, "force": True})) == whole}
    for name, step in (("mid_round", EVERY + 2), ("boundary", 2 * EVERY)):
        broken = {**cfg, "runs_dir": str(folder / name)}
        with stopped_before(step) as reached:
            try:
                run_job(broken)
            except Interrupted:
                reached.append(step)
        assert reached, "nothing was interrupted"
        found[name] = numbers(run_job(broken)) == whole
    return found


@contextmanager
def stopped_before(step: int) -> Iterator[list[int]]:
    """Jobs run inside raise before they take optimiser step `step`, counted from 0."""
    from tasks.task import Task

    original = Task.training_step

    def stopped(self: Task, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            raise Interrupted(f"before step {step}")
        return original(self, batch, batch_idx)

    Task.training_step = stopped
    try:
        yield []
    finally:
        Task.training_step = original
