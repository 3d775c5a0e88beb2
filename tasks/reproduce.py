"""`make reproduce`: plan the missing jobs, run them as one multirun, rebuild the tables.

Everything is read from records, so that it survives the death of a job, a worker or itself: run it again and it
goes on. If the multirun dies, the unfinished job is recorded as failed and the rest is launched again.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.suite import locks, records
from tasks.suite.atomic import write_atomic
from tasks.suite.coverage import Coverage
from tasks.suite.plan import Job, Plan

WORK, LOG = ".multirun", "reproduce.log"
Stamp = tuple[int, int, int, int]


def announce(plan: Plan, coverage: Mapping[str, Coverage], console: Console, workers: int) -> None:
    """Say what is about to happen: which of the 38 datasets are ready, how many jobs, how long.

    Args:
        plan: of all jobs that were asked for.
        coverage: dataset -> whether it is at hand, for the 38.
        console: where to say it.
        workers: jobs at a time.
    """
    ready = [name for name, found in coverage.items() if found.ready]
    other = [found.label for found in coverage.values() if not found.ready and found.label]
    also = f", and {', '.join(other)} as what they are" if other else ""
    console.print(f"{len(ready)} of the {len(coverage)} datasets are ready{also}.", highlight=False)
    table = Table(title="What there is to do", title_justify="left", title_style="")
    for column in ("family", "sets at hand", "jobs", "done already", "to run", "not available"):
        table.add_column(column)
    families = sorted({job.family for job in plan.jobs})
    for family in families:
        jobs = [job for job in plan.jobs if job.family == family]
        ready = {job.dataset for job in jobs if job.status != "unavailable"}
        table.add_row(
            family,
            f"{len(ready)} of {len({job.dataset for job in jobs})}",
            str(len(jobs)),
            str(sum(job.status == "done" for job in jobs)),
            str(sum(job.to_run for job in jobs)),
            str(sum(job.status == "unavailable" for job in jobs)),
        )
    console.print(table)
    missing = {job.dataset: job.reason for job in plan.of("unavailable")}
    for dataset, reason in missing.items():
        console.print(f"  not available: {dataset}: {reason}", highlight=False, soft_wrap=True)
    if plan.todo:
        minutes = plan.seconds(workers) / 60
        console.print(f"{len(plan.todo)} jobs to run on {workers} worker(s), about {minutes:.0f} minutes")
    else:
        console.print("Nothing to run: every job is done.")


def run_plan(
    plan: Plan, *, train: Path, runs: Path, workers: int, extra: Sequence[str], console: Console
) -> dict[str, dict[str, Any]]:
    """Run what is to be done, launching again what a dead multirun left; returns the records by run id."""
    wanted = {job.run_id: job for job in plan.todo}
    before = _stamps(runs, wanted)
    left, again = list(wanted.values()), True
    while left and again:
        code = _multirun(left, before, train=train, runs=runs, workers=workers, extra=extra, console=console)
        if code and not _finished(runs, wanted, before):
            console.print(_last_words(runs / WORK / LOG), style="red", markup=False, highlight=False, soft_wrap=True)
        buried = locks.bury(runs, signal.Signals(-code).name if code < 0 else None)
        for run in buried:
            console.print(f"  died: {run} (recorded as failed; the next run resumes it)")
        count = len(left)
        finished = _finished(runs, wanted, before)
        left = [job for run, job in wanted.items() if run not in finished]
        again = code != 0 and len(left) < count  # a multirun that leaves no record at all would do so for ever
        if left and again:
            console.print(f"The multirun died; {len(left)} jobs are left and launched again.")
    return _finished(runs, wanted, {})


def _multirun(
    jobs: Sequence[Job],
    before: Mapping[str, Stamp],
    *,
    train: Path,
    runs: Path,
    workers: int,
    extra: Sequence[str],
    console: Console,
) -> int:
    """One Hydra multirun over `jobs`; shows each job as its record appears; returns the exit code."""
    listed = runs / WORK / f"jobs-{os.getpid()}.json"
    write_atomic(listed, json.dumps([list(job.overrides) for job in jobs]).encode())
    command = [sys.executable, str(train), "-m", f"hydra.sweeper.jobs={listed}", f"runs_dir={runs}", "progress=lines"]
    if workers > 1:
        command += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}", "hydra.launcher.batch_size=1"]
        command += [f"hydra.launcher.pre_dispatch={workers}"]
    command += extra
    with (runs / WORK / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(workers),
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        try:
            _watch(process, {job.run_id: job for job in jobs}, runs, before, console)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            locks.bury(runs, "SIGINT")
            raise
        finally:
            listed.unlink(missing_ok=True)
    return process.returncode


def _watch(
    process: subprocess.Popen[bytes],
    jobs: Mapping[str, Job],
    runs: Path,
    before: Mapping[str, Stamp],
    console: Console,
) -> None:
    """Print a line for each finished job, and on a terminal a bar with the steps of the running ones."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        whole = bar.add_task("jobs", total=len(jobs), now="")
        seen, started = set[str](), time.monotonic()
        while True:
            ended = process.poll() is not None
            for run, record in _finished(runs, jobs, before).items():
                if run not in seen:
                    seen.add(run)
                    left = _time_left(jobs, seen, started)
                    console.print(
                        f"[{len(seen)}/{len(jobs)}] {_line(record)}{left}",
                        highlight=False,
                        soft_wrap=True,
                        markup=False,
                    )
            running = [f"{p.run_id} {p.step}/{p.total}" for p in locks.progress(runs) if p.alive]
            bar.update(whole, completed=len(seen), now="  ".join(running))
            if ended:
                return
            time.sleep(0.5)


def _last_words(log: Path) -> str:
    """The last line of a log: a multirun that ended before its first job said why there."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "the multirun ended without a word"


def _time_left(jobs: Mapping[str, Job], seen: set[str], started: float) -> str:
    """What is left, from the pace so far in units of the estimates."""

    def cost(names: Callable[[str], bool]) -> float:
        return sum(((job.estimate_seconds or 1.0) + 1.0 for run, job in jobs.items() if names(run)), 0.0)

    done, left = cost(lambda run: run in seen), cost(lambda run: run not in seen)
    seconds = (time.monotonic() - started) * left / max(done, 1e-9)
    return f"  (about {seconds / 60:.0f} min left)" if left else ""


def _line(record: Mapping[str, Any]) -> str:
    if record["status"] != "done":
        return f"{record['run_id']}: {record['status']}: {record['reason']}"
    scores = ", ".join(f"{name} {measure['value']:.4g}" for name, measure in record["metrics"]["test"].items())
    return f"{record['run_id']}: {scores}  ({record['wall_seconds']:.0f} s)"


def _finished(runs: Path, jobs: Mapping[str, Job], before: Mapping[str, Stamp]) -> dict[str, dict[str, Any]]:
    """The records of `jobs` that are not those of `before`, by run id."""
    found = {}
    for run, stamp in _stamps(runs, jobs).items():
        if stamp != before.get(run):
            with contextlib.suppress(records.RecordError):
                found[run] = records.read(runs / run / records.RECORD_NAME)
    return found


def _stamps(runs: Path, jobs: Mapping[str, Job]) -> dict[str, Stamp]:
    """By what each record's file is told from a later one, whatever the clock did in between."""
    found = {}
    for run in jobs:
        with contextlib.suppress(OSError):
            stat = (runs / run / records.RECORD_NAME).stat()
            found[run] = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    return found


def _environment(workers: int) -> dict[str, str]:
    """The child's environment: one thread a job (two under load cost up to 45x), and whose child it is."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return os.environ | threads | {locks.REPRODUCER: str(os.getpid())}


def _die_with_parent() -> None:
    """In the child, on Linux: be terminated when the process that started it dies, however that happened."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
