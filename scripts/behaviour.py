"""Train the behaviour policies that the surrogate data sets are rolled out with.

Needs the extra `behaviour` (stable-baselines3). What it made is in tasks/rl/weights: nobody needs to run it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="halfcheetah, hopper, walker2d or ant")]
Work = Annotated[Path, typer.Option(help="folder of trainings, outside the repository")]
Seed = Annotated[int, typer.Option(min=0)]


@app.command("train")
def train_policy(
    name: Name,
    work: Work,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="environment steps; default: the robot's own")] = None,
    until: Annotated[int | None, typer.Option(min=1, help="stop early, at the last snapshot up to here")] = None,
    every: Annotated[int, typer.Option(min=1, help="steps between snapshots")] = 40_000,
) -> None:
    """Train one robot's policy; the same command goes on where a training was cut off."""
    from tasks.rl.behaviour import SETTINGS, train
    from tasks.rl.robots import ROBOTS

    if name not in ROBOTS:
        raise typer.BadParameter(f"no such robot; choose one of {', '.join(ROBOTS)}")
    settings = replace(SETTINGS[name], steps=steps) if steps else SETTINGS[name]

    def report(line: dict[str, float]) -> None:
        typer.echo(f"{name} {line['steps']:>9.0f} steps  return {line['return']:8.1f}  {line['cpu_seconds']:.0f} CPU-s")

    train(ROBOTS[name], work / f"{name}-seed{seed}", settings, seed, every, report, until)


@app.command("pack")
def pack_tiers(
    name: Name,
    work: Work,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="where the weights go")] = Path("tasks/rl/weights"),
    medium_return: Annotated[float | None, typer.Option(help="while training: what medium must reach")] = None,
) -> None:
    """Choose each tier's policies, measure them and write them; the rules are in tasks/rl/packing.py."""
    from tasks.rl.packing import pack
    from tasks.rl.robots import ROBOTS

    if name not in ROBOTS:
        raise typer.BadParameter(f"no such robot; choose one of {', '.join(ROBOTS)}")
    folder = work / f"{name}-seed{seed}"
    typer.echo("robot,tier,steps,return,std,score,length")
    for line in pack(ROBOTS[name], folder, out, medium_return=medium_return):
        typer.echo(line)
    if medium_return is None:
        (out / f"{name}-curve.csv").write_bytes((folder / "curve.csv").read_bytes())


if __name__ == "__main__":
    app()
