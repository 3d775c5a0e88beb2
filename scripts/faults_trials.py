"""Kill trials: fifty sweeps hit once each, at random, over the stages, the four families and both signals."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import faults_kills as harness
from faults_common import Part, smoke_job
from faults_kills import STAGES, Blow, Config, Stage

TWELVE = ("task.budget.max_steps=12", "task.budget.eval_every=3")
SETS = {  # family -> a small job of it; no file of a data root is needed
    "classification": ("dataset=JapaneseVowels", *TWELVE),
    "events": ("dataset=known/hawkes-marked", "task.data.n_sequences=60", *TWELVE),
    "forecasting": ("dataset=known/seasonal", "task.data.rows=[3000,600,600]", *TWELVE),
    "rl": ("dataset=hopper-medium", "task.data.surrogate.steps=2000", *TWELVE),
}
MODELS = ("aaren", "transformer")
TRIES = 5  # a blow in time may come when the stage is over and the process gone


def pair(family: str) -> list[Config]:
    """The two jobs of a family: Aaren and the Transformer."""
    return [smoke_job(*SETS[family], f"model={model}") for model in MODELS]


def blows(seed: int) -> Iterator[tuple[str, Blow]]:
    """Family and blow for ever, in turns: every signal and way at every stage of every family before one repeats."""
    rng = random.Random(seed)
    grid = list(itertools.product(SETS, STAGES, ("SIGKILL", "SIGTERM"), ("files", "time")))
    while True:
        rng.shuffle(grid)
        for family, stage, name, by in grid:
            yield family, Blow(stage, rng.randrange(24), rng.random(), name, by)


def place(blow: Blow, known: list[Stage]) -> Blow:
    """The blow with a turn that its stage has; data are prepared by the first job, so most blows go there."""
    turns = sum(stage.stage == blow.stage for stage in known)
    turn = blow.turn % turns
    return blow._replace(turn=0 if blow.stage == "preparation" and blow.turn % 4 else turn)


def kills(part: Part, count: int, seed: int) -> bool:
    """Hit `count` sweeps; whether each was then whole, repeated no finished job, and ended as an undisturbed one."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    wholes: dict[str, tuple[list[Config], list[Stage], dict[str, str]]] = {}
    harness.warm(folder / "warm")
    try:
        for number, (family, blow) in enumerate(itertools.islice(blows(seed), count)):
            if number < len(part.seen):
                continue
            if family not in wholes:
                jobs, home = pair(family), folder / family
                assert harness.run(jobs, home) == 0, "the undisturbed sweep failed"
                wholes[family] = jobs, harness.stages(home), harness.outcomes(home)
            jobs, known, whole = wholes[family]
            part.add(**_trial(folder / "trial", family, jobs, place(blow, known), known, whole))
            print(f"{len(part.seen)}/{count}: {part.seen[-1]}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    hit = [row for row in part.seen if int(row["hit"])]
    sums = {name: sum(int(row[name]) for row in part.seen) for name in ("damaged", "repeated", "leftovers")}
    by_stage = {stage: sum(row["stage"] == stage for row in hit) for stage in STAGES}
    by_signal = {name: sum(row["signal"] == name for row in hit) for name in ("SIGKILL", "SIGTERM")}
    equal = sum(int(row["equal"]) for row in part.seen)
    return part.finish(kills=len(hit), **sums, equal=equal, stages=by_stage, signals=by_signal)


def _trial(home: Path, family: str, jobs: list[Config], blow: Blow, known: list[Stage], whole: dict) -> dict:
    for attempt in range(TRIES):
        shutil.rmtree(home, ignore_errors=True)
        tried = blow._replace(moment=blow.moment * 0.5**attempt)
        code = harness.run(jobs, home, tried, known)
        hit = code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
        if hit:
            break
    bad, done = harness.damaged(home), harness.finished(home)
    code_again = harness.run(jobs, home)
    after = harness.finished(home)
    repeated = sum(after.get(run) != stamp for run, stamp in done.items())
    equal = code_again == 0 and harness.outcomes(home) == whole
    bad += harness.damaged(home)
    return {
        "passed": hit and not bad and not repeated and equal,
        "family": family,
        **tried._asdict(),
        "exit_code": code,
        "hit": int(hit),
        "done_before": len(done),
        "damaged": len(bad),
        "repeated": repeated,
        "equal": int(equal),
        "leftovers": harness.leftovers(home),
        "what": "; ".join(bad),
    }
