"""Apply our dashboard to a Weights & Biases project: sections a family, runs grouped by dataset and model."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    entity: Annotated[str, typer.Option(help="W&B user or team that the project belongs to.")],
    project: Annotated[str, typer.Option(help="W&B project; 'make wandb-sync' fills it.")] = "aaren",
    show: Annotated[bool, typer.Option("--show", help="Print the layout as JSON and ask no server.")] = False,
) -> None:
    """Save the layout as a view of the project and print its address. Exit code 2: it could not be."""
    from tasks.tracking import LOGIN, host, logged_in

    if not show and not logged_in():
        _fail(f"no W&B key for {host()}: {LOGIN}; --show prints the layout without a server")
    try:
        from tasks.dashboard import layout

        workspace = layout(project, entity)
    except ImportError as error:
        _fail(f"{error.name} is missing: install it with  pip install -c constraints.txt -e '.[dashboard]'")
    if show:
        typer.echo(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1))
        return
    try:
        typer.echo(workspace.save().url)
    except Exception as error:  # the library lets pass whatever its HTTP client raises
        _fail(f"{host()} did not take the view ({type(error).__name__}: {error}); check entity, project and network")


def _fail(text: str) -> NoReturn:
    typer.secho(f"error: {text}", fg="red", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
