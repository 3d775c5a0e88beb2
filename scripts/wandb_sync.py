"""Mirror our records, curves and tables to a Weights & Biases project. The records are the truth; W&B is their copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

ROOT = Path(__file__).resolve().parent.parent
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    runs: Annotated[list[Path] | None, typer.Option(help="Folders of runs; default results/runs.")] = None,
    records: Annotated[Path | None, typer.Option(help="Gathered records (results/measured), instead of runs.")] = None,
    project: Annotated[str, typer.Option(help="W&B project.")] = "aaren",
    entity: Annotated[str | None, typer.Option(help="W&B user or team; default your own.")] = None,
    offline: Annotated[bool, typer.Option(help="Keep the runs on this disk; 'wandb sync' uploads them.")] = False,
    force: Annotated[bool, typer.Option(help="Send again what has been sent.")] = False,
    folder: Annotated[Path, typer.Option(help="Where offline runs and the ledger are kept.")] = Path("results/wandb"),
) -> None:
    """Send what is not there yet; the same command goes on after an interruption. Exit code 1: unusable records."""
    if records is not None and runs:
        raise typer.BadParameter("--records reads gathered records: it does not go with --runs")
    from tasks.tracking import LOGIN, host, logged_in

    if not offline and not logged_in():
        _fail(f"no W&B key for {host()}: {LOGIN}; or keep the runs on this disk with --offline")
    import tempfile

    from tasks.mirror import MirrorError, Target, mirror
    from tasks.suite.rebuild import rebuild

    try:
        with tempfile.TemporaryDirectory() as made:
            rebuilt = rebuild(runs or [Path("results/runs")], Path(made), gathered=records)
        if not rebuilt.records:
            _fail(f"{records or (runs or [Path('results/runs')])[0]}: no usable record; 'make reproduce' makes some")
        target = Target(project, entity, folder, not offline)
        sent = kept = 0
        for name, new in mirror(rebuilt.records, rebuilt.tables, target, force=force):
            sent, kept = sent + new, kept + (not new)
            if new:
                typer.echo(name)
    except (OSError, ValueError, MirrorError) as error:
        _fail(str(error))
    typer.echo(f"{sent} runs sent, {kept} there already ({target.ledger})")
    for problem in rebuilt.problems:
        typer.secho(f"left out: {problem}", fg="yellow", err=True)
    if rebuilt.problems:
        raise typer.Exit(1)


def _fail(text: str) -> NoReturn:
    typer.secho(f"error: {text}", fg="red", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
