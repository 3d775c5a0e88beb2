"""What a finished table is: display strings, what to set in bold, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from tasks.suite.rows import Row
from tasks.suite.summary import Summary

FamilySummary = tuple[str, str, Summary | None]  # family, which sets, and the verdict where there is one


@dataclass(frozen=True)
class Table:
    """A finished table: `shown` holds display strings under two-level columns, `bold` what to set in bold, `tidy` the
    numbers, one line a cell, for other programs; `rows` where its cells come from, `summaries` the family's verdict."""

    key: str
    title: str
    caption: str
    notes: tuple[str, ...]
    shown: pd.DataFrame
    bold: pd.DataFrame
    tidy: pd.DataFrame
    rows: Sequence[Row] = field(default=(), compare=False)
    summaries: Sequence[FamilySummary] = field(default=(), compare=False)


def plain(lines: Sequence[dict[str, str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`shown` and `bold` of a table without column groups and without anything in bold."""
    shown = pd.DataFrame([{("", name): value for name, value in line.items()} for line in lines])
    shown.columns = pd.MultiIndex.from_tuples(list(shown.columns))
    return shown, pd.DataFrame(False, index=shown.index, columns=shown.columns)
