"""Read the paper's own result tables from its arXiv HTML, so that our tables can show them beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

URL = "https://arxiv.org/html/2405.13956v2"
OUT = Path(__file__).resolve().parent.parent / "results" / "reference" / "imported" / "paper.csv"
TIMEOUT = 60  # seconds
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    html: Annotated[str, typer.Option(help="The page: a file, or an address.")] = URL,
    out: Annotated[Path, typer.Option(help="Where the numbers go; git ignores the default.")] = OUT,
    partial: Annotated[bool, typer.Option(help="Keep what was read even if the page lacks some results.")] = False,
) -> None:
    """Write what the page says as a reference file; refuse a page that is not the paper as it is known."""
    from tasks.suite.atomic import write_atomic
    from tasks.suite.paper import read_paper
    from tasks.suite.references import load_references

    try:
        imported = read_paper(_fetch(html))
        if imported.missing and not partial:
            shown = "; ".join(imported.missing[:5]) + (" ..." if len(imported.missing) > 5 else "")
            raise ValueError(
                f"the page lacks {len(imported.missing)} of the paper's results ({shown}): its tables changed; check"
                " the page, or take what is there with --partial"
            )
        write_atomic(out, imported.lines.to_csv(index=False, lineterminator="\n").encode())
        load_references(out.parent)  # what was written must be what the tables accept
    except (OSError, ValueError) as error:
        typer.secho(f"error: {html}: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    for lacking in imported.missing:
        typer.secho(f"not on the page: {lacking}", fg="yellow", err=True)
    typer.echo(f"{len(imported.lines)} numbers in {out}; `make tables` shows them")


def _fetch(html: str) -> str:
    if not html.startswith(("http://", "https://")):
        return Path(html).read_text(encoding="utf-8")
    import requests

    try:
        answer = requests.get(html, timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ValueError(
            f"cannot be fetched ({error}); save the page with a browser and give the file: --html FILE"
        ) from error
    answer.encoding = "utf-8"
    return answer.text


if __name__ == "__main__":
    app()
