"""The suite under faults, for longer than a test may take: what `make faults` runs.

Each part leaves `<part>.csv` and `<part>.json` in results/reliability; one that was cut off goes on where it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from faults_common import RELIABILITY, Part

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Out = Annotated[Path, typer.Option(file_okay=False, help="folder of the results")]
Minutes = Annotated[float, typer.Option(min=0.1, help="how long")]
Kills = Annotated[int, typer.Option("--kills", min=1, help="how many sweeps are hit")]
Seed = Annotated[int, typer.Option(help="of the moments")]
# Bitwise equality is promised at a fixed thread count; read by the libraries when they are imported.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@app.callback()
def _one_thread() -> None:
    os.environ |= {name: os.environ.get(name, "1") for name in THREADS}


@app.command()
def kills(count: Kills = 50, seed: Seed = 0, out: Out = RELIABILITY) -> None:
    """SIGKILL and SIGTERM at random moments of every stage of a sweep."""
    from faults_trials import kills as run

    promise = "A sweep that is killed leaves no damaged file, repeats no finished job and ends with the same numbers"
    _run("kills", promise, f"--kills {count} --seed {seed}", lambda part: run(part, count, seed), out)


@app.command()
def repeats(out: Out = RELIABILITY) -> None:
    """The same job again, and interrupted and resumed: all families, both models."""
    from faults_repeats import repeats as run

    promise = "On the CPU a rerun and a resume, within a round and at its end, equal the whole run to the last bit"
    _run("repeats", promise, "", run, out)


@app.command("soak-stream")
def soak_stream(minutes: Minutes = 10, out: Out = RELIABILITY) -> None:
    """A stream fed for minutes: resident memory."""
    from faults_soaks import stream as run

    promise = "A stream takes no more memory after minutes than at its start: within 1 % after the warm-up"
    _run("soak-stream", promise, f"--minutes {minutes:g}", lambda part: run(part, minutes), out)


@app.command("soak-train")
def soak_train(minutes: Minutes = 10, out: Out = RELIABILITY) -> None:
    """A job trained for minutes: resident memory."""
    from faults_soaks import train as run

    promise = "A training takes no more memory after minutes than at its start: within 1 % after the warm-up"
    _run("soak-train", promise, f"--minutes {minutes:g}", lambda part: run(part, minutes), out)


@app.command("all")
def everything(count: Kills = 50, minutes: Minutes = 10, seed: Seed = 0, out: Out = RELIABILITY) -> None:
    """Every part, one after another."""
    commands: tuple[Callable[[], None], ...] = (
        lambda: repeats(out),
        lambda: kills(count, seed, out),
        lambda: soak_stream(minutes, out),
        lambda: soak_train(minutes, out),
    )
    failed = []
    for command in commands:
        try:
            command()
        except typer.Exit as error:
            failed.append(error.exit_code)
    if failed:
        raise typer.Exit(1)


def _run(name: str, promise: str, options: str, work: Callable[[Part], bool], out: Path) -> None:
    part = Part(name, promise, f"python scripts/faults.py {name} {options}".strip(), out, {"options": options})
    passed = work(part)
    print(f"{name}: {'held' if passed else 'BROKEN'} in {len(part.seen)} trials; see {part.out / name}.json")
    if not passed:
        print(f"what broke is in {part.out / name}.csv", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
