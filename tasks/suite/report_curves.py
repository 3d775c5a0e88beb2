"""What the records' artefacts hold to draw: learning curves, and a dataset's own curve on the test part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from tasks.suite.layout import MAIN_HORIZON
from tasks.suite.margins import MAIN_METRIC
from tasks.suite.report_plots import Chart, Line, draw
from tasks.suite.rows import Row
from tasks.suite.table import Table

Record = Mapping[str, Any]
LOSS = "train/loss"


class Drawn(NamedTuple):
    """The charts of one dataset: `learning` and `tested` are "" where the records hold nothing to draw."""

    label: str
    family: str
    learning: Markup
    tested: Markup
    caption: str
    models: tuple[str, ...]


class OnTest(NamedTuple):
    """An artefact that is a curve on the test part: its two lists, and the words at its axes."""

    artefact: str
    x: str
    y: str
    x_label: str
    y_label: str
    log_x: bool = False
    diagonal: bool = False


ON_TEST = (
    OnTest("accuracy_by_fraction_seen", "fraction", "accuracy", "share of the series seen", "test accuracy"),
    OnTest("mse_by_step", "step", "mse", "steps ahead", "test MSE", log_x=True),
    OnTest("calibration", "levels", "reached", "predicted quantile", "share of test gaps below", diagonal=True),
)


def curves(tables: Sequence[Table], records: Mapping[str, Record]) -> list[Drawn]:
    """The charts of every dataset of one profile and protocol, in the order of its tables.

    Only the runs that stand in the tables' cells are drawn; of several horizons, the main one.
    """
    found: dict[str, Drawn] = {}
    for table in tables:
        for row in table.rows:
            if _is_main(row) and row.dataset not in found:
                drawn = _of_row(row, records)
                if drawn is not None:
                    found[row.dataset] = drawn
    return list(found.values())


def _is_main(row: Row) -> bool:
    name = row.metric.name if row.metric else ""
    return name == MAIN_METRIC.get(row.family, name) and row.horizon in (None, MAIN_HORIZON) and bool(row.cells)


def _of_row(row: Row, records: Mapping[str, Record]) -> Drawn | None:
    runs: dict[str, list[Record]] = {
        model: [records[run] for run in cell.runs if run in records and records[run]["status"] == "done"]
        for model, cell in row.cells.items()
    }
    trained = {model: group for model, group in runs.items() if row.cells[model].trained and group}
    learning, watched = _learning(row, trained)
    tested = _tested(row, runs)
    if not learning and not tested:
        return None
    seeds = {len({record["seed"] for record in group}) for group in trained.values()}
    said = "" if row.horizon is None else f"Horizon {row.horizon}. "
    if learning:
        said += f"First: {watched} while training, a line a seed ({'/'.join(map(str, sorted(seeds)))}). "
    else:
        said += "The records hold no learning curve. "
    said += (
        f"{'Second, on the test part' if learning else 'Shown, on the test part'}: mean over seeds." if tested else ""
    )
    return Drawn(row.dataset, row.family, learning, tested, said.strip(), tuple(runs))


def _learning(row: Row, trained: Mapping[str, Sequence[Record]]) -> tuple[Markup, str]:
    metric = row.metric
    wanted = f"val/{metric.name}" if metric else LOSS
    histories = [(model, _history(record)) for model, group in trained.items() for record in group]
    name = wanted if any(wanted in point for _, history in histories for point in history) else LOSS
    scale = metric.scale if metric and name == wanted else 1.0
    lines = []
    for model, history in histories:
        points = [(point["step"], point[name]) for point in history if name in point and "step" in point]
        numbers = [y * scale if isinstance(y, int | float) else None for _, y in points]
        lines.append(Line(model, [x for x, _ in points], numbers))
    said = f"validation {metric.title}" if metric and name == wanted else "training loss"
    return draw(Chart(f"{row.dataset}: {said} by optimiser step", "optimiser steps", said, lines)), said


def _tested(row: Row, runs: Mapping[str, Sequence[Record]]) -> Markup:
    for kind in ON_TEST:
        lines = []
        for model, group in runs.items():
            found = [found for record in group if (found := _pair(record["artefacts"].get(kind.artefact), kind))]
            if found:
                lines.append(_mean(model, found))
        if lines:
            title = f"{row.dataset}: {kind.y_label} by {kind.x_label}"
            return draw(Chart(title, kind.x_label, kind.y_label, lines, kind.log_x, kind.diagonal))
    return Markup("")


def _history(record: Record) -> list[Mapping[str, Any]]:
    history = record["artefacts"].get("history")
    return [point for point in history if isinstance(point, Mapping)] if isinstance(history, list) else []


def _pair(artefact: Any, kind: OnTest) -> list[tuple[float, float]]:
    """The points of an artefact; [] where it is not of the form that its family writes."""
    if not isinstance(artefact, Mapping):
        return []
    x, y = artefact.get(kind.x), artefact.get(kind.y)
    if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
        return []
    numbers = (int, float)
    return [
        (float(a), float(b)) for a, b in zip(x, y, strict=True) if isinstance(a, numbers) and isinstance(b, numbers)
    ]


def _mean(model: str, runs: Sequence[Sequence[tuple[float, float]]]) -> Line:
    """The mean over runs at every x that all of them have."""
    at: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        for x, y in run:
            at[x].append(y)
    common = sorted(x for x, ys in at.items() if len(ys) == len(runs))
    return Line(model, common, [sum(at[x]) / len(runs) for x in common])
