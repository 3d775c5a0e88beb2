"""The data of the suite: what is ready, what is missing and how to get it, and whether the files are right.

The data root is $AAREN_DATA, else data/ in the project; nothing else writes to it. Families add their commands to
`app`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tasks.errors import ConfigError, DatasetError
from tasks.inventory import select, status, verify
from tasks.locate import cache_root, data_root
from tasks.suite.manifest import load_manifest

HELP = """Which datasets are ready, how to get the others, and whether the files are right.

The data root is $AAREN_DATA, else data/ in the project. Try: python scripts/data.py status"""
app = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP, rich_markup_mode=None)
Names = Annotated[list[str] | None, typer.Argument(help="dataset names, families, or all", show_default="all")]
COLOURS = {"ready": "green", "ok": "green", "unknown": "yellow", "no reader": "yellow", "missing": "dim"}


def console() -> Console:
    """Plain lines, never wrapped: a command in the output can be copied whole."""
    return Console(soft_wrap=True, highlight=False)


def _selected(names: list[str] | None) -> list[str]:
    try:
        return select(names or [])
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _state(state: str) -> str:
    colour = COLOURS.get(state, "red")
    return f"[{colour}]{state:<9}[/{colour}]"


@app.command("status")
def show_status(names: Names = None) -> None:
    """Say whether each is ready and from where, or the one step to take."""
    out = console()
    root = data_root()
    out.print(f"data root {escape(str(root))}{'' if root.is_dir() else ' (does not exist)'}")
    out.print(f"cache     {escape(str(cache_root()))}")
    rows = [status(name) for name in _selected(names)]
    for row in rows:
        step = f"  {escape('-> ' + row.step)}" if row.step else ""
        out.print(f"{row.name:<26}{row.family:<15}{_state(row.state)} {row.variant:<10}{escape(row.source):<12}{step}")
    main = [row for row in rows if load_manifest().datasets[row.name].is_main]
    ready = [row for row in main if row.state == "ready"]
    official = sum(row.variant == "official" for row in ready)
    out.print(f"{len(ready)} of {len(main)} datasets of the paper are ready, {official} of them as the official set")


@app.command("get")
def get_datasets(
    names: Annotated[list[str], typer.Argument(help="dataset names, families, or all")],
    force: Annotated[bool, typer.Option("--force", help="set a damaged file aside and fetch it again")] = False,
) -> None:
    """Download into the data root: whole and verified, or not at all.

    Into the cache where the data root is read-only."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from tasks.acquire import get

    out = console()
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    for name in _selected(names):
        with Progress(*columns, console=out, transient=True, disable=not sys.stdout.isatty()) as bar:
            job = bar.add_task(name, total=None)
            try:
                found, fetched = get(name, force, lambda done, total, j=job: bar.update(j, completed=done, total=total))
            except DatasetError as error:
                failed += 1
                out.print(f"{name}: [red]not ready[/red]\n  {escape(str(error))}")
                continue
        if found.source == "generated":
            out.print(f"{name}: made by the suite itself, nothing to fetch")
        else:
            where = ", ".join(str(path) for path in found.files.values())
            out.print(f"{name}: {'fetched' if fetched else 'already there'}, verified: {escape(where)}")
    if failed:
        raise typer.Exit(1)


@app.command("verify")
def verify_files(names: Names = None) -> None:
    """Hash every file that is there; the exit code is 1 if one is bad."""
    out = console()
    bad = count = 0
    selected = _selected(names)
    for checked in verify(selected):
        count += 1
        bad += checked.state == "bad"
        detail = f"  {escape(checked.detail)}" if checked.detail else ""
        out.print(f"{_state(checked.state)} {checked.name:<26} {escape(str(checked.path))}{detail}")
    if any(load_manifest().datasets[name].family == "rl" for name in selected):
        from tasks.rl.d4rl_package import compare

        if said := compare():
            out.print(said)
    out.print(f"{count} files, {bad} bad")
    if bad:
        raise typer.Exit(1)


@app.command("import")
def import_events(
    name: Annotated[str, typer.Argument(help="mimic, wiki, reddit, mooc, stackoverflow, uber or taxi")],
    path: Annotated[Path, typer.Argument(help="the published file or folder, in any of its layouts")],
) -> None:
    """Convert your own copy of an event set, in the layout you have, into the data root.

    Pickles are read through an allow-list: nothing in them is run."""
    from tasks.events.importers import import_set

    try:
        target = import_set(name, path)
    except (ConfigError, DatasetError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    console().print(f"{name}: written to {escape(str(target))}")


@app.command("surrogate")
def make_surrogates(
    names: Annotated[list[str], typer.Argument(help="hopper-medium ..., or all: the paper's twelve")],
    steps: Annotated[int, typer.Option(help="environment steps of each")] = 100_000,
    seed: Annotated[int, typer.Option(help="of resets, policies and noise")] = 0,
    source: Annotated[str, typer.Option(help="own: policies of the project; snapshots: of the data root")] = "own",
    out: Annotated[Path | None, typer.Option(help="a folder to have them in; default: the cache")] = None,
) -> None:
    """Roll behaviour policies out on real physics: RL data in D4RL's layout, which is not D4RL's.

    The same command finds a file that is already there; training makes what it needs by itself."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tasks.rl.d4rl import read_metadata
    from tasks.rl.environment import EnvironmentFailed
    from tasks.rl.surrogate import surrogate_file

    screen = console()
    if names == ["all"]:
        names = [name for name in load_manifest().main if load_manifest().datasets[name].family == "rl"]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    for name in names:
        with Progress(*columns, console=screen, transient=True, disable=not sys.stdout.isatty()) as bar:
            job = bar.add_task(name, total=steps)
            try:
                path = surrogate_file(
                    name, steps, seed, source, out=out, report=lambda done, j=job: bar.update(j, completed=done)
                )
                facts = read_metadata(path)
            except ConfigError as error:
                option = error.option.rsplit(".", 1)[-1]
                typer.echo(f"--{option} {error.value}: {error.reason}" if "." in error.option else str(error), err=True)
                raise typer.Exit(2) from error
            except (DatasetError, EnvironmentFailed, OSError) as error:
                typer.echo(f"{name}: {error}", err=True)
                raise typer.Exit(1) from error
        skill = f"{facts['skill/episodes']} episodes, return {facts['skill/return_mean']:.0f}"
        spread = f"± {facts['skill/return_std']:.0f}, score {facts['skill/normalized_score']:.1f}"
        screen.print(f"{facts['dataset']}: {skill} {spread}, verified: {escape(str(path))}")


if __name__ == "__main__":
    app()
