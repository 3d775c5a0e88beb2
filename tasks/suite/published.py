"""The published columns of a table: others' numbers beside our rows, each column with its numbered source."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from tasks.suite.layout import Metric
from tasks.suite.references import NOT_IMPORTED, PAPER_MODELS, PAPER_PROTOCOL, PAPER_SOURCE
from tasks.suite.rows import Row

APPROXIMATE = "approximate"  # a reference's note that puts a tilde before its number


class Published(NamedTuple):
    """Per row, column name -> number; the columns in order; and the sentences that explain the numbered sources."""

    rows: list[dict[str, str]]
    columns: list[str]
    notes: tuple[str, ...]


def published(family: str, rows: Sequence[Row], references: pd.DataFrame, *, paper: bool) -> Published:
    """Every reference number for the rows' dataset, horizon and metric.

    Args:
        references: from `references.load_references`.
        paper: give the paper's own two models a column, which says "not imported" where its number is not known.

    A row of a part of a dataset (`StackOverflow-partial`) shows the numbers of the whole one, and a note says so.
    """
    lookup: dict[tuple[str, str, str], list[dict[Any, Any]]] = defaultdict(list)
    for line in references.to_dict("records"):
        if line["family"] == family:
            lookup[line["dataset"], line["horizon"], line["metric"]].append(line)
    numbers: dict[tuple[str, str], int] = {}
    if paper:
        numbers[PAPER_SOURCE, PAPER_PROTOCOL] = 1
    papers = [f"{model} [1]" for model in PAPER_MODELS] if paper else []
    columns = dict.fromkeys(papers)
    found: list[dict[str, str]] = []
    for row in rows:
        cells = dict.fromkeys(papers, NOT_IMPORTED) if row.metric else {}
        horizon = "" if row.horizon is None else str(row.horizon)
        for line in lookup[row.published_as, horizon, row.metric.name] if row.metric else ():
            number = numbers.setdefault((line["source"], line["protocol"]), len(numbers) + 1)
            name = f"{line['model']} [{number}]"
            cells[name] = _number(line, row.metric)
            columns.setdefault(name)
        found.append(cells)
    notes = [f"[{number}] {source} ({protocol})." for (source, protocol), number in numbers.items()]
    if paper and any(NOT_IMPORTED in cells.values() for cells in found):
        notes.append(
            f"{NOT_IMPORTED}: the paper's number is not known here; python scripts/import_paper.py reads its tables."
        )
    parts = {row.dataset: row.published_as for row, cells in zip(rows, found, strict=True) if cells}
    notes += [
        f"{label} is a part of {whole}: the published numbers in its rows are on the whole set."
        for label, whole in parts.items()
        if label != whole
    ]
    return Published(found, list(columns), tuple(notes))


def _number(line: Mapping[Any, Any], metric: Metric | None) -> str:
    scale, digits = (metric.scale, metric.digits) if metric else (1.0, 3)
    spread = "" if math.isnan(line["std"]) else f" ± {line['std'] * scale:.{digits}f}"
    return f"{'~' if line['note'] == APPROXIMATE else ''}{line['value'] * scale:.{digits}f}{spread}"
