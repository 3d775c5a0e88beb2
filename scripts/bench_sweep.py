"""What a sweep costs beside its jobs, and what a second joblib worker brings.

    python scripts/bench_sweep.py overhead
    python scripts/bench_sweep.py speedup           # stopped half-way, it goes on where it was

Wall and CPU seconds of whole multiruns in processes of their own; on a machine that others use too, read CPU seconds.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from bench_common import EFFICIENCY, ROOT, Row, is_current, read_rows, report, show, source_hash, write_rows
from machine import described

from tasks.suite import records

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
Out = Annotated[Path | None, typer.Option(help="Where the CSV goes; nowhere with an empty string.")]

LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1"),
    "submitit_local": ("hydra/launcher=submitit_local",),
}
# The smallest job that trains: two optimiser steps and two scores; nearly all of it is what every job pays.
SMALLEST = ("dataset=JapaneseVowels", "model=aaren", "profile=smoke", "task.budget.max_steps=2")
SMALLEST += ("task.budget.eval_every=1",)
# Sets that need no download, of three families, the longest jobs first as `make reproduce` has them. The 12 jobs take
# 3 to 64 CPU seconds, 21 in the median (all of a quick sweep: 27): a process's start weighs what it does for a user.
QUICK_SETS = "extra/us-temperatures,known/seasonal,known/recall,known/selective-copy,known/hawkes,JapaneseVowels"
OVERHEAD_BAR, SPEEDUP_BAR = 5.0, 1.6


class Swept(NamedTuple):
    """Seconds of a multirun: the clock's, the processors', and those that each of its jobs says it took."""

    wall: float
    cpu: float
    jobs: list[float]


def sweep(*arguments: str) -> Swept:
    """Run a multirun into a folder of its own.

    Raises:
        SystemExit: a job failed; the multirun's own words go before it.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *arguments]
        command += [f"runs_dir={folder}", "logger=none", "progress=none"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"{done.stderr}\nerror: the multirun ended with {done.returncode}: {' '.join(command)}")
        found = records.read_all(Path(folder)).records
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Swept(wall, cpu, [record["wall_seconds"] for record in found])


@app.command()
def overhead(
    jobs: Annotated[int, typer.Option(min=2, help="Jobs in the longer sweep.")] = 6,
    launcher: Annotated[str, typer.Option(help=f"Which, comma-separated: {', '.join(LAUNCHERS)}.")] = "basic,joblib",
    out: Out = EFFICIENCY,
) -> None:
    """Seconds of the smallest job, the first of a sweep (imports and all) and each further one."""
    rows = []
    for name in launcher.split(","):
        one = sweep(*SMALLEST, "seed=0", *LAUNCHERS[name])
        many = sweep(*SMALLEST, f"seed=range({jobs})", *LAUNCHERS[name])
        further = {"wall": (many.wall - one.wall) / (jobs - 1), "cpu": (many.cpu - one.cpu) / (jobs - 1)}
        rows.append(
            {
                "launcher": name, "jobs": len(many.jobs),
                "first_wall_s": one.wall, "first_cpu_s": one.cpu,
                "each_further_wall_s": further["wall"], "each_further_cpu_s": further["cpu"],
                "a_job_wall_s": many.wall / jobs, "a_job_cpu_s": many.cpu / jobs,
                "bar_s": OVERHEAD_BAR, "holds": many.wall / jobs < OVERHEAD_BAR,
                "command": _command(),
            }
        )  # fmt: skip
    report("sweep-overhead", rows, out, settings=" ".join(SMALLEST))


@app.command()
def speedup(
    dataset: Annotated[str, typer.Option(help="Sets, comma-separated, the longest jobs first.")] = QUICK_SETS,
    profile: Annotated[str, typer.Option(help="Whose jobs; the bar is for those of quick.")] = "quick",
    again: Annotated[bool, typer.Option("--again", help="Also what was measured here with this code before.")] = False,
    out: Out = EFFICIENCY,
) -> None:
    """A sweep over both models on one joblib worker, then on two; about 6 minutes, kept after each."""
    sizes = (f"dataset={dataset}", "model=aaren,transformer", f"profile={profile}")
    settings, path = " ".join(sizes), out / "sweep-speedup.csv" if out else None
    held = read_rows(path) if path and not again and is_current(path, settings) else []
    rows, where = [Row(row) for row in held], described() | {"source": source_hash(), "settings": settings}
    for workers in range(len(rows) + 1, 3):
        swept = sweep(*sizes, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}")
        ratio = float(rows[0]["wall_s"]) / swept.wall if rows else 1.0
        row: Row = {"workers": workers, "jobs": len(swept.jobs), "median_job_s": statistics.median(swept.jobs)}
        row |= {"longest_job_s": max(swept.jobs), "wall_s": swept.wall, "cpu_s": swept.cpu}
        row |= {"speed_up": ratio, "busy_cores": swept.cpu / swept.wall, "bar": SPEEDUP_BAR if workers == 2 else 1.0}
        row |= {"holds": ratio >= row["bar"], "command": _command()}
        rows.append(row | where)  # a held row keeps its own
        if path:
            print(f"written: {write_rows(path, rows)}")
    show("sweep-speedup", [{key: row[key] for key in row if key not in where} for row in rows])


def _command() -> str:
    return " ".join(["python scripts/bench_sweep.py", *sys.argv[1:]])


if __name__ == "__main__":
    app()
