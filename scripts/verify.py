"""Check results before they are believed: records, staleness, tables, and cells too good to be true."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    records: Annotated[Path, typer.Option(help="Gathered records.")] = ROOT / "results" / "measured",
    runs: Annotated[list[Path] | None, typer.Option(help="Folders of runs, instead of gathered records.")] = None,
    stale: Annotated[bool, typer.Option(help="Compose every command again, to see whether configs changed.")] = True,
) -> None:
    """Print a line for each doubt; the exit code is 1 if one of them must be mended, 2 if nothing can be read."""
    from tasks import staleness
    from tasks.suite import verify
    from tasks.suite.anomalies import NOTES_NAME, read_notes
    from tasks.suite.gathered import read_gathered
    from tasks.suite.headline import block
    from tasks.suite.rebuild import rebuild
    from tasks.suite.records import read_all
    from tasks.suite.references import load_references
    from tasks.suite.report import REPORT_NAME, page

    folder = runs[0] if runs else records
    try:
        gathered, coverage = read_gathered(records) if not runs else (read_all(*runs), None)
        notes, references = read_notes(folder / NOTES_NAME), load_references()
        with tempfile.TemporaryDirectory() as made:
            rebuilt = rebuild(runs or [], Path(made), gathered=None if runs else records, coverage=coverage)
            of_page = page(rebuilt, folder).encode() if not runs and rebuilt.records else b""
            headline = block(rebuilt)
            fresh = {str(path.relative_to(made)): path.read_bytes() for path in rebuilt.files}
    except (OSError, ValueError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    known = coverage if coverage is not None else verify.all_ready()
    outdated = staleness.stale(gathered.records, ROOT / "conf") if stale else {}
    command = f"python scripts/tables.py {'--runs' if runs else '--records'} {_shown(folder)}"
    found = [
        *verify.of_problems(gathered.problems),
        *verify.of_records(gathered.records, outdated, known),
        *verify.of_references(gathered.records, references, known, notes),
    ]
    if not runs or (folder / "tables").is_dir():
        found += verify.of_tables(folder / "tables", fresh, command)
    report = folder / REPORT_NAME
    if of_page and report.exists() and report.read_bytes() != of_page:
        found.append(verify.Finding(str(report), "is not what the records say: edited, or older", "make report"))
    if not runs and records.resolve() == ROOT / "results" / "measured":
        found += verify.of_readme(ROOT / "README.md", headline)
    for finding in found:
        text = str(finding).replace(f"{ROOT}/", "")
        typer.secho(text if finding.serious else f"remark: {text}", fg="red" if finding.serious else None)
    serious = sum(finding.serious for finding in found)
    remarks = len(found) - serious
    typer.echo(f"{len(gathered.records)} records, {len(fresh)} tables: {serious} to mend, {remarks} remarks")
    if serious:
        raise typer.Exit(1)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    app()
