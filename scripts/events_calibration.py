"""Plot the calibration of event models from their records: the share of test gaps below each predicted quantile.

A calibrated model follows the diagonal; the KS distance is in the legend. Nothing is trained or loaded but records.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

COLUMNS = 4


def main(
    runs: Annotated[Path, typer.Option(help="folder of records")] = Path("results/runs"),
    out: Annotated[Path | None, typer.Option(help="the figure; default: calibration.svg beside the records")] = None,
    profile: Annotated[str, typer.Option(help="smoke, quick or paper: never mixed")] = "quick",
) -> None:
    """One panel a set, one line a model (seed 0)."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from tasks.suite.records import read_all

    panels: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in read_all(runs).records:
        chosen = record["family"] == "events" and record["status"] == "done" and record["profile"] == profile
        if chosen and record["seed"] == 0 and record["protocol"] == "honest" and not record["fold"]:
            panels[record["label"]].append(record)
    if not panels:
        raise typer.BadParameter(f"{runs} has no event records of profile {profile}", param_hint="--runs")
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3 * COLUMNS, 3 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (label, records) in zip(axes.flat, sorted(panels.items()), strict=False):
        axis.plot([0, 1], [0, 1], color="0.8", lw=1)
        for record in sorted(records, key=lambda r: r["model"]):
            curve = record["artefacts"]["calibration"]
            name = f"{record['model']} {curve['ks']:.3f}"
            axis.plot(curve["levels"], curve["reached"], lw=1, label=name)
        axis.set_title(label, fontsize=9)
        axis.legend(fontsize=6, frameon=False)
    figure.supxlabel("predicted probability")
    figure.supylabel("share of test gaps")
    target = out or runs / "calibration.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    typer.echo(f"written: {target}")


if __name__ == "__main__":
    typer.run(main)
