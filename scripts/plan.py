"""List the jobs of a sweep with the hours each will take, so that a full run can be sized before it is paid for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    profile: Annotated[str, typer.Option(help="smoke, quick or paper.")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted from 0.")] = 5,
    family: Annotated[str, typer.Option(help="Families, comma-separated; empty for all.")] = "",
    dataset: Annotated[str, typer.Option(help="Datasets, comma-separated; empty for all.")] = "",
    model: Annotated[str, typer.Option(help="Models, comma-separated.")] = "aaren,transformer",
    horizon: Annotated[str, typer.Option(help="Horizons, comma-separated; empty for the family's default.")] = "",
    protocol: Annotated[str, typer.Option(help="honest or paper_compat.")] = "honest",
    device: Annotated[str, typer.Option(help="What the hours are of: cpu (one core) or gpu.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Jobs at a time, for the total.")] = 1,
    known: Annotated[bool, typer.Option(help="Also the sets outside the paper's 38.")] = False,
    listed: Annotated[bool, typer.Option("--list/--totals", help="A line for each job, or totals only.")] = True,
    runs: Annotated[Path, typer.Option(help="Records that are done already.")] = ROOT / "results" / "runs",
) -> None:
    """Hours are of training in full: early stopping makes them fewer; evaluation, or a busy machine, more."""

    from tasks.errors import ConfigError
    from tasks.requests import Wanted, requests
    from tasks.suite import costs
    from tasks.suite.layout import FAMILY_OF
    from tasks.suite.manifest import read_manifest
    from tasks.suite.plan import Plan, plan
    from tasks.suite.records import read_all

    if device not in ("cpu", "gpu"):
        raise typer.BadParameter(f"--device is cpu or gpu, not {device}")
    wanted = Wanted(
        profile=profile,
        seeds=seeds,
        families=_list(family),
        datasets=_list(dataset),
        models=_list(model),
        protocol=protocol,
        horizons=tuple(int(h) for h in _list(horizon)),
    )
    try:
        asked, broken = requests(wanted, ROOT / "conf")
    except ConfigError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from None
    asked = [request for request in asked if known or dataset or request.dataset in FAMILY_OF]
    steps = costs.measured_steps(gpu=device == "gpu")
    if device == "gpu" and not steps:
        typer.secho("no training step was measured on a GPU: results/efficiency has no gpu-*train*.csv", err=True)
        raise typer.Exit(2)
    records = read_all(runs).records
    planned = plan(asked, records, {}) if device == "cpu" else _without_times(plan(asked, records, {}))
    cfg_of = {request.overrides: request.cfg for request in asked}
    shapes = {name: next(iter(entry.variants.values())).shape for name, entry in read_manifest().datasets.items()}
    typical = asked[0].cfg.get("typical_cpu_seconds", {}) if asked and device == "cpu" else {}
    jobs, sources = [], defaultdict(int)
    for job in planned.jobs:
        seconds, source = job.estimate_seconds, "like jobs that ran"
        if seconds is None:
            work = costs.work_of(cfg_of[job.overrides], shapes.get(job.dataset, {}))
            seconds, source = (costs.seconds(work, job.model, steps) if work else None), "measured steps"
        if seconds is None:
            seconds, source = typical.get(job.family), "a typical job of the family"
        sources[source if seconds is not None else "unknown"] += 1
        jobs.append(replace(job, estimate_seconds=seconds))
    if listed:
        typer.echo(f"{'hours':>9}  {'status':<12} run")
        for job in jobs:
            typer.echo(f"{_hours(job.estimate_seconds):>9}  {job.status:<12} {job.run_id}")
    _totals(Plan(tuple(jobs)), device, workers)
    typer.echo("estimates from: " + ", ".join(f"{source} ({count})" for source, count in sources.items()))
    for error in broken:
        typer.secho(f"cannot be used: {error}", fg="red", err=True)


def _totals(planned, device: str, workers: int) -> None:
    """A line a family, and one for all: jobs, those that are left, and their hours."""
    by_family = defaultdict(list)
    for job in planned.jobs:
        by_family[job.family].append(job)
    typer.echo("")
    for family, jobs in [*sorted(by_family.items()), ("all", list(planned.jobs))]:
        left = [job for job in jobs if job.status != "done"]
        hours = sum(job.estimate_seconds or 0.0 for job in left) / 3600
        absent = sum(job.status == "unavailable" for job in left)
        note = f", {absent} of them wait for data" if absent else ""
        typer.echo(
            f"{family:<15} {len(jobs):>4} jobs, {len(left):>4} to run: {hours:>9.1f} {device} hours of training{note}"
        )
    if workers > 1:
        typer.echo(
            f"with {workers} at a time: {planned.seconds(workers) / 3600:.1f} hours for those whose data is there"
        )


def _without_times(planned):
    """The plan without estimates: seconds of a CPU say nothing about a GPU."""
    from tasks.suite.plan import Plan

    return Plan(tuple(replace(job, estimate_seconds=None) for job in planned.jobs))


def _hours(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds / 3600:.3f}"


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.replace(" ", ",").split(",") if part)


if __name__ == "__main__":
    app()
