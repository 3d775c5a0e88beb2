"""One HTML page of everything measured, the tables, and the README's first screen. Trains nothing, needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "results" / "measured"
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    records: Annotated[Path | None, typer.Option(help="Gathered records; default results/measured.")] = None,
    runs: Annotated[list[Path] | None, typer.Option(help="Folders of runs, instead of gathered records.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page; default report.html beside the records.")] = None,
    tables: Annotated[Path | None, typer.Option(help="Where tables go; default tables beside the records.")] = None,
    readme: Annotated[Path | None, typer.Option(help="Whose first numbers to write; default ours.")] = None,
) -> None:
    """Rebuild tables, page, README numbers; exit code 1 if a record was unusable (it is named), 2 without a page."""
    if records is not None and runs:
        raise typer.BadParameter("--records reads gathered records: it does not go with --runs")
    from tasks.suite.headline import write_headline
    from tasks.suite.rebuild import rebuild
    from tasks.suite.report import REPORT_NAME, EmptyReportError, write_report

    folder = runs[0] if runs else records or MEASURED
    try:
        empty = runs and not any(any(place.glob("*/record.json")) for place in runs)
        if empty:
            raise EmptyReportError(f"{folder}: no record.json in its run folders; 'make reproduce' makes some")
        rebuilt = rebuild(runs or [], tables or folder / "tables", gathered=None if runs else folder)
        page = write_report(rebuilt, folder, out or folder / REPORT_NAME)
        if readme is None and folder == MEASURED and out is None and tables is None:
            readme = ROOT / "README.md"
        if readme is not None:
            write_headline(rebuilt, readme)
    except (OSError, ValueError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{page}: {page.stat().st_size:,} bytes, {len(rebuilt.records)} records; {len(rebuilt.files)} tables")
    for problem in rebuilt.problems:
        typer.secho(f"left out: {problem}", fg="yellow", err=True)
    if rebuilt.problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
