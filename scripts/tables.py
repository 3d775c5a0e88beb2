"""Rebuild every table from records: markdown, LaTeX, CSV, HTML, and on the terminal. Trains nothing, needs no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    runs: Annotated[list[Path] | None, typer.Option(help="Folders of runs; default results/runs.")] = None,
    records: Annotated[Path | None, typer.Option(help="Gathered records (results/measured), instead of runs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where tables go; default <runs or records>/tables.")] = None,
    gather: Annotated[Path | None, typer.Option(help="Also write the runs' records to this folder, to commit.")] = None,
    profile: Annotated[str, typer.Option(help="What an empty results folder is shown as.")] = "quick",
    show: Annotated[bool, typer.Option(help="Print the tables.")] = True,
) -> None:
    """One set of tables for each profile and protocol in the records; the exit code is 1 if a record was unusable."""
    if records is not None and (runs or gather is not None):
        raise typer.BadParameter("--records reads gathered records: it goes with neither --runs nor --gather")
    from rich.console import Console

    from tasks.suite.rebuild import rebuild
    from tasks.suite.terminal import print_tables

    folders = runs or [Path("results/runs")]
    try:
        rebuilt = rebuild(
            folders, out or (records or folders[0]) / "tables", gathered=records, gather=gather, profile=profile
        )
    except (OSError, ValueError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    if show:
        # Where there is no terminal to ask, as wide as a log may be.
        print_tables(rebuilt.tables, Console(width=None if sys.stdout.isatty() else 200))
    typer.echo(f"{len(rebuilt.files)} files in {out or (records or folders[0]) / 'tables'}")
    for problem in rebuilt.problems:
        typer.secho(f"left out: {problem}", fg="yellow", err=True)
    if rebuilt.problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
