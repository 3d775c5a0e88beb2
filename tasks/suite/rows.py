"""From records to a table's rows: which dataset, horizon and metric, with a cell for every model and its notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.suite.cells import Cell, Choice, average, cell, choose
from tasks.suite.coverage import Coverage
from tasks.suite.layout import FAMILY_OF, MEAN_HORIZON, METRICS, Layout, Metric, extra_metrics_of, metrics_of

Record = Mapping[str, Any]
PAIR = ("aaren", "transformer")
OFFICIAL = ("official", "synthetic")  # synthetic with the dataset's own label: synthetic by definition


@dataclass(frozen=True)
class Row:
    """One line of a table. Without cells (`metric` None) it stands for a dataset that has no results yet."""

    dataset: str
    horizon: int | str | None
    metric: Metric | None
    cells: Mapping[str, Cell]
    note: str = ""
    left_out: Sequence[Record] = field(default=(), compare=False)
    failures: Sequence[Record] = field(default=(), compare=False)
    best: str = ""  # the best score there can be, where a set's truth is known
    origin: str = ""  # the dataset whose variant this is, where the label is not its name
    variant: str | None = None
    family: str = ""

    @property
    def published_as(self) -> str:
        """The dataset whose published numbers belong in this row: a part of a set is held against the whole one."""
        return self.origin if self.variant == "partial" and self.origin else self.dataset

    @property
    def items(self) -> str:
        """The number of test items behind the numbers; several, separated by a slash, if the jobs differ."""
        return " / ".join(str(n) for n in sorted({n for cell in self.cells.values() for n in cell.n}))

    @property
    def place(self) -> str:
        """The row in words, for a sentence."""
        horizon = "" if self.horizon is None else f", horizon {self.horizon}"
        return f"{self.dataset}{horizon}, {self.metric.title if self.metric else ''}"

    def rules_ahead(self) -> list[Cell]:
        """The trivial rules whose mean is better than that of aaren and of transformer (of those that ran)."""
        pair = [self.cells[name] for name in PAIR if name in self.cells and self.cells[name].values]
        rules = [cell for cell in self.cells.values() if not cell.trained and cell.values]
        return [rule for rule in rules if pair and all(rule.better_than(model) for model in pair)]

    def best_trained(self) -> set[str]:
        """The trained models with the best printed mean, if several are complete: the ones to set in bold."""
        rivals = [cell for cell in self.cells.values() if cell.trained and cell.complete]
        if len(rivals) < 2:
            return set()
        shown = {cell.model: round(cell.mean, cell.metric.digits) for cell in rivals}
        best = max(shown.values()) if rivals[0].higher_is_better else min(shown.values())
        return {model for model, mean in shown.items() if mean == best}


def main_rows(
    layout: Layout,
    records: Iterable[Record],
    coverage: Mapping[str, Coverage],
    prefer: Collection[str] = (),
) -> list[Row]:
    """Rows of one of the paper's tables: every dataset, ready or not, filled by its official variant alone."""
    own = [r for r in records if r["family"] == layout.family and r["dataset"] in layout.datasets]
    by_place: dict[tuple[str, Any], list[Record]] = defaultdict(list)
    for record in own:
        if record["label"] == record["dataset"] and record["variant"] in (*OFFICIAL, None):
            by_place[record["dataset"], record["horizon"]].append(record)
    rows: list[Row] = []
    for dataset in layout.datasets:
        horizons = layout.horizons or (None,)
        metrics = metrics_of(layout.family, dataset)
        choices = {horizon: choose(by_place[dataset, horizon], prefer) for horizon in horizons}
        if not any(choice.by_model for choice in choices.values()):
            why = _why_empty(dataset, by_place, horizons, own, coverage)
            rows += _empty_rows(dataset, horizons, metrics, why)
            continue
        for horizon, choice in choices.items():
            note = "" if choice.by_model else "not run"
            rows += _rows(dataset, horizon, metrics, choice, note)
        if layout.average:
            rows += _average_rows(dataset, metrics, [row for row in rows if row.dataset == dataset], len(horizons))
    return [replace(row, family=layout.family) for row in rows]


def extra_rows(family: str, records: Iterable[Record], prefer: Collection[str] = ()) -> list[Row]:
    """Rows of everything else of a family that has run: other variants, known/ and extra/ sets, each by its label."""
    by_place: dict[tuple[str, Any], list[Record]] = defaultdict(list)
    for record in records:
        if record["family"] == family and not in_main_table(record) and record["status"] != "unavailable":
            by_place[record["label"], record["horizon"]].append(record)
    rows: list[Row] = []
    for label, horizon in sorted(by_place, key=lambda place: (place[0], place[1] or 0)):
        group = by_place[label, horizon]
        origin, variant = group[0]["dataset"], group[0]["variant"]
        metrics = extra_metrics_of(family, origin, variant) or _metrics_found(group)
        made = _rows(label, horizon, metrics, choose(group, prefer), "")
        rows += [replace(row, origin=origin, variant=variant, family=family) for row in made]
    return rows


def in_main_table(record: Record) -> bool:
    """Whether the record belongs to one of the paper's rows: a paper's dataset, and no other variant of it."""
    is_own = record["label"] == record["dataset"] and record["variant"] in (*OFFICIAL, None)
    return is_own and FAMILY_OF.get(record["dataset"]) == record["family"]


def _empty_rows(dataset: str, horizons: Sequence[Any], metrics: Sequence[Metric], why: str) -> list[Row]:
    """A dataset without results: a row a metric, for the published numbers; with several horizons one row in all."""
    if len(horizons) > 1:
        return [Row(dataset, None, None, {}, why)]
    return [Row(dataset, horizons[0], m, {}, why if m == metrics[0] else "") for m in metrics]


def _rows(label: str, horizon: int | None, metrics: Sequence[Metric], choice: Choice, note: str) -> list[Row]:
    rows: list[Row] = []
    for metric in metrics:
        cells: dict[str, Cell] = {}
        for model, records in choice.by_model.items():
            found = cell(model, records, metric, model not in choice.other_options)
            if found is not None:
                cells[model] = found
        best = _best_reachable(choice, metric)
        if metric == metrics[0]:
            failures = [r for group in choice.by_model.values() for r in group if r["status"] == "failed"]
            rows.append(Row(label, horizon, metric, cells, note, choice.left_out, failures, best))
        else:
            rows.append(Row(label, horizon, metric, cells, note, best=best))
    return rows


def _best_reachable(choice: Choice, metric: Metric) -> str:
    """The mean over runs (each has its own generated test part) of what the truth itself scores; "" if unknown.

    A family reports it as the artefact `best_<metric>` or the test metric `true_<metric>`.
    """
    known: list[float] = []
    for record in (record for group in choice.by_model.values() for record in group):
        truth = record["metrics"].get("test", {}).get(f"true_{metric.name}", {}).get("value")
        value = record["artefacts"].get(f"best_{metric.name}", truth)
        known += [value] if isinstance(value, int | float) else []
    return f"{sum(known) / len(known) * metric.scale:.{metric.digits}f}" if known else ""


def _average_rows(dataset: str, metrics: Sequence[Metric], rows: Sequence[Row], horizons: int) -> list[Row]:
    averages: list[Row] = []
    for metric in metrics:
        own = [row for row in rows if row.metric == metric]
        models = {model for row in own for model in row.cells}
        means = {model: average([row.cells.get(model) for row in own]) for model in sorted(models)}
        cells = {model: mean for model, mean in means.items() if mean is not None}
        if cells and len(own) == horizons:
            averages.append(Row(dataset, MEAN_HORIZON, metric, cells))
    return averages


def _why_empty(
    dataset: str,
    by_place: Mapping[tuple[str, Any], list[Record]],
    horizons: Sequence[Any],
    records: Sequence[Record],
    coverage: Mapping[str, Coverage],
) -> str:
    known = coverage.get(dataset)
    if known is not None:
        return known.note() or "not run"
    for horizon in horizons:
        for record in by_place[dataset, horizon]:
            if record["status"] == "unavailable":
                return f"{record['reason']}" + (f". To get it: {record['fix']}" if record["fix"] else "")
    others = sorted({record["label"] for record in records if record["dataset"] == dataset} - {dataset})
    return f"not run; {', '.join(others)} has a row among the extras" if others else "not run"


def _metrics_found(records: Sequence[Record]) -> tuple[Metric, ...]:
    """A family without a table of its own: whatever its records hold, as it is."""
    names = {name for record in records for name in record["metrics"].get("test", {})}
    known = {metric.name: metric for metrics in METRICS.values() for metric in metrics}
    return tuple(known.get(name, Metric(name, name)) for name in sorted(names))
