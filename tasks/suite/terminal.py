"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tasks.suite.render import flat_names
from tasks.suite.table import Table
from tasks.suite.tables import PUBLISHED

ROOM_FOR_PUBLISHED = 160  # columns of the terminal


def print_tables(tables: Mapping[tuple[str, str], Sequence[Table]], console: Console | None = None) -> None:
    """Print every table, its caption above and its notes below; published columns are dim, the best models bold."""
    console = console or Console()
    for (profile, protocol), group in tables.items():
        console.rule(Text(f"profile {profile}, protocol {protocol}"))
        for table in group:
            console.print(_rich(table, console.width))
            for note in table.notes:
                console.print(Text(note, style="dim"))
            console.print()


def _rich(table: Table, width: int) -> RichTable:
    """The table to fit `width`: published columns only where there is room, a note without the remedy.

    Remedies stand in the files, and `make reproduce` has said them before it began.
    """
    printed = RichTable(title=Text(table.caption), title_justify="left", title_style="", pad_edge=False)
    names = flat_names(table)
    shown = [i for i, (group, _) in enumerate(table.shown.columns) if group != PUBLISHED or width >= ROOM_FOR_PUBLISHED]
    for i in shown:
        dim = table.shown.columns[i][0] == PUBLISHED
        printed.add_column(Text(names[i]), style="dim" if dim else None, overflow="fold")
    for cells, bold in zip(table.shown.to_numpy(), table.bold.to_numpy(), strict=True):
        row = [(cells[i].partition(". To get it:")[0], bold[i]) for i in shown]
        printed.add_row(*(Text(cell, style="bold" if mark else "") for cell, mark in row))
    return printed
