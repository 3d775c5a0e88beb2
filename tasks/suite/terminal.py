"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tasks.suite.render import flat_names
from tasks.suite.tables import PUBLISHED, Table


def print_tables(tables: Mapping[tuple[str, str], Sequence[Table]], console: Console | None = None) -> None:
    """Print every table, its caption above and its notes below; published columns are dim, the best models bold."""
    console = console or Console()
    for (profile, protocol), group in tables.items():
        console.rule(Text(f"profile {profile}, protocol {protocol}"))
        for table in group:
            console.print(_rich(table))
            for note in table.notes:
                console.print(Text(note, style="dim"))
            console.print()


def _rich(table: Table) -> RichTable:
    printed = RichTable(title=Text(table.caption), title_justify="left", title_style="", pad_edge=False)
    for (group, _), name in zip(table.shown.columns, flat_names(table), strict=True):
        printed.add_column(Text(name), style="dim" if group == PUBLISHED else None, overflow="fold")
    for cells, bold in zip(table.shown.to_numpy(), table.bold.to_numpy(), strict=True):
        printed.add_row(*(Text(cell, style="bold" if mark else "") for cell, mark in zip(cells, bold, strict=True)))
    return printed
