"""A table as the page's template wants it: header groups, and cells that know their number in the provenance."""

from __future__ import annotations

from typing import Any, NamedTuple

from tasks.suite.report_provenance import Provenance
from tasks.suite.table import Table
from tasks.suite.tables import OURS, PUBLISHED


class CellView(NamedTuple):
    """A printed cell; `source` is its number in the provenance, None where it comes from no run."""

    text: str
    bold: bool
    source: int | None
    kind: str


class TableView(NamedTuple):
    """A table: `groups` are (title, number of columns), `kinds` the class of each column."""

    key: str
    title: str
    caption: str
    notes: tuple[str, ...]
    groups: list[tuple[str, int]]
    columns: list[tuple[str, str]]
    lines: list[list[CellView]]


def view(table: Table, profile: str, protocol: str, provenance: Provenance) -> TableView:
    """The table with the provenance of each of our numbers filed under its cell."""
    every = [(str(group), str(name)) for group, name in table.shown.columns]
    order = sorted(range(len(every)), key=lambda place: _rank(*every[place]))
    columns = [every[place] for place in order]
    groups: list[tuple[str, int]] = []
    for group, _ in columns:
        if groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 1)
        else:
            groups.append((group, 1))
    lines = []
    bold = table.bold.to_numpy()
    for position, texts in enumerate(table.shown.to_numpy()):
        row = table.rows[position] if position < len(table.rows) else None
        line = []
        for place, (group, name) in zip(order, columns, strict=True):
            text = texts[place]
            cell = row.cells.get(name) if row is not None and group == OURS else None
            source = provenance.add(row, cell, profile, protocol) if row is not None and cell is not None else None
            line.append(CellView(str(text), bool(bold[position, place]), source, _kind(group, name, text)))
        lines.append(line)
    named = [(name, _kind(group, name, "")) for group, name in columns]
    return TableView(table.key, table.title, table.caption, table.notes, groups, named, lines)


def _rank(group: str, name: str) -> int:
    """Why a row is empty is said before others' numbers, where a reader still sees it."""
    return 2 if group == PUBLISHED else 1 if name == "note" else 0


def _kind(group: str, name: str, text: Any) -> str:
    """The class of a cell: how wide, how aligned, and a verdict's own mark."""
    if name == "note":
        return "note"
    if name == "verdict":
        return f"verdict {str(text).partition(' ')[0]}".strip()
    return "published" if group == PUBLISHED else "ours" if group == OURS else "key"
