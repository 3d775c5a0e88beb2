"""The streaming step of a trained model as ONNX:  python scripts/export.py run=<run_id>"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
HELP = """Write the streaming step of trained runs as ONNX, checked against torch on onnxruntime.

Words: run=<run_id>[,<run_id>...] (a folder of results/runs), runs_dir=<folder>, steps=<n> to check (1000),
plugin=<file> (for model=custom). Leaves <run>/export/step.onnx and step.json."""
KNOWN = ("run", "runs_dir", "steps", "plugin")
app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode=None)


@app.command(help=HELP, no_args_is_help=True)
def main(words: Annotated[list[str], typer.Argument(metavar="run=<run_id> ...")]) -> None:
    """Export each run; the exit code is 1 if one failed, 2 for words that are not understood."""
    import torch

    from aaren.export import OnnxMissing
    from tasks.errors import ConfigError, DatasetError
    from tasks.export import STEPS, ExportFailed, export_run
    from tasks.suite.atomic import WriteError
    from tasks.suite.records import RecordError

    try:
        options = _options(words)
        steps = _count(options.get("steps", str(STEPS)))
    except ConfigError as error:
        _say(error)
        raise typer.Exit(2) from error
    torch.set_num_threads(1)
    runs_dir = Path(options.get("runs_dir", ROOT / "results" / "runs"))
    plugin = Path(options["plugin"]) if "plugin" in options else None
    failed = False
    for run_id in options["run"].split(","):
        try:
            done = export_run(run_id, runs_dir, steps=steps, plugin=plugin)
        except (OnnxMissing, ConfigError, DatasetError, RecordError, ExportFailed, WriteError) as error:
            _say(error)
            failed = True
            continue
        checked = done.checked
        room = "constant" if done.capacity is None else f"room for {done.capacity:,} steps"
        typer.echo(f"{run_id}: {done.model}, {done.size:,} bytes; state {done.state_size:,} bytes a stream, {room}")
        typer.echo(
            f"  {checked.steps:,} steps beside torch, largest difference {checked.difference:.1e} "
            "(absolute; relative where an output exceeds 1)"
        )
        typer.echo(
            f"  median step, one stream, one thread: onnxruntime {checked.onnx_seconds * 1e6:,.0f} us, "
            f"torch {checked.torch_seconds * 1e6:,.0f} us"
        )
    if failed:
        raise typer.Exit(1)


def _options(words: list[str]) -> dict[str, str]:
    from tasks.errors import ConfigError, near_misses

    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            name, value = "run", word  # a bare run id
        if name not in KNOWN:
            near = near_misses(name, KNOWN)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(name, value, f"{hint}words are {', '.join(f'{known}=' for known in KNOWN)}")
        if not value or name in options:
            raise ConfigError(name, value, "give it once, with a value")
        options[name] = value
    if "run" not in options:
        raise ConfigError("run", None, "say which: run=<run_id>, the name of a folder in results/runs")
    return options


def _count(text: str) -> int:
    from tasks.errors import ConfigError

    if not text.isdecimal() or int(text) < 1:
        raise ConfigError("steps", text, "a whole number, at least 1")
    return int(text)


def _say(error: Exception) -> None:
    typer.secho(f"error: {error}", fg="red", err=True)


if __name__ == "__main__":
    app()
