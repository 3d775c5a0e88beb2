"""Plan, run and tabulate: everything `make reproduce` does.  See `make help` for its variables."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
WIDE = 200  # columns where there is no terminal to ask: a log or a file
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    profile: Annotated[str, typer.Option(help="smoke, quick or paper.")] = "quick",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted from 0.")] = 1,
    family: Annotated[str, typer.Option(help="Families, comma-separated; empty for all.")] = "",
    dataset: Annotated[str, typer.Option(help="Datasets, comma-separated; empty for all.")] = "",
    model: Annotated[str, typer.Option(help="Models, comma-separated; empty for the pair and the trivial ones.")] = "",
    horizon: Annotated[str, typer.Option(help="Horizons, comma-separated; empty for the family's default.")] = "",
    protocol: Annotated[str, typer.Option(help="honest or paper_compat.")] = "honest",
    jobs: Annotated[int, typer.Option(min=0, help="Workers; 0 for one a core.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where records go.")] = ROOT / "results" / "runs",
    overrides: Annotated[
        str, typer.Option(help="More overrides for every job or its launcher, space-separated (logger=none ...).")
    ] = "",
    plan_only: Annotated[bool, typer.Option("--plan", help="Say what would be done, and stop.")] = False,
) -> None:
    """Run every job that is not done yet and rebuild the tables; run again, it only rebuilds the tables."""
    from rich.console import Console

    from tasks import reproduce
    from tasks.errors import ConfigError
    from tasks.requests import Wanted, requests
    from tasks.suite.coverage import coverage
    from tasks.suite.identity import RUNTIME_KEYS
    from tasks.suite.plan import plan
    from tasks.suite.rebuild import rebuild
    from tasks.suite.records import read_all
    from tasks.suite.terminal import print_tables

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    runs, workers = runs.absolute(), jobs or len(os.sched_getaffinity(0))
    given = overrides.split()
    runtime = [part for part in given if re.split("[./=]", part)[0] in RUNTIME_KEYS]
    wanted = Wanted(
        profile=profile,
        seeds=seeds,
        families=_list(family),
        datasets=_list(dataset),
        models=_list(model),
        horizons=tuple(int(h) for h in _list(horizon)),
        protocol=protocol,
        overrides=tuple(part for part in given if part not in runtime),
    )
    begun = time.monotonic()
    try:
        asked, broken = requests(wanted, ROOT / "conf")
    except ConfigError as error:
        raise SystemExit(f"error: {error}") from None
    typical = asked[0].cfg.get("typical_cpu_seconds", {}) if asked else {}
    planned = plan(asked, read_all(runs).records, typical)
    reproduce.announce(planned, coverage(), console, workers)
    for error in broken:
        console.print(f"cannot be used: {error}", style="red", highlight=False, soft_wrap=True)
    if plan_only:
        return
    try:
        finished = reproduce.run_plan(
            planned,
            train=ROOT / "scripts" / "train.py",
            runs=runs,
            workers=workers,
            extra=runtime,
            console=console,
        )
    except KeyboardInterrupt:
        console.print("Interrupted. What is done is kept: run the same command again to go on.")
        raise SystemExit(130) from None
    prefer = {job.run_id for job in planned.jobs}
    rebuilt = rebuild([runs], runs / "tables", profile=profile, protocol=protocol, prefer=prefer)
    print_tables({key: tables for key, tables in rebuilt.tables.items() if key == (profile, protocol)}, console)
    console.print(
        f"{len(rebuilt.files)} table files in {_shown(runs / 'tables')}; {time.monotonic() - begun:.0f} s in all"
    )
    failed = [record for record in finished.values() if record["status"] == "failed"]
    lost = [job.run_id for job in planned.todo if job.run_id not in finished]
    for record in failed:
        console.print(f"failed: {record['run_id']}: {record['reason']}", style="red", highlight=False, soft_wrap=True)
    for run in lost:
        console.print(f"no record: {run}; see {_shown(runs / reproduce.WORK / 'reproduce.log')}", style="red")
    for problem in rebuilt.problems:
        console.print(f"left out: {problem}", style="yellow", highlight=False, soft_wrap=True)
    if failed or lost or broken or rebuilt.problems:
        raise SystemExit(1)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.replace(" ", ",").split(",") if part)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    app()
