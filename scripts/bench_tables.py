"""Looking things up in measured tables: rows of a CSV as they were read, every cell a text."""

from __future__ import annotations

from pathlib import Path

from bench_common import read_rows

Table = list[dict[str, str]]
NAMES = (
    "operator",
    "operator-threads",
    "operator-error",
    "training",
    "figure5-1",
    "figure5-128",
    "figure5-whole",
    "streams-one",
    "streams",
)


def read_tables(folder: Path) -> dict[str, Table]:
    """The measured tables that a folder has, by name.

    Raises:
        BenchError: a file that cannot be read.
    """
    return {name: read_rows(path) for name in NAMES if (path := folder / f"{name}.csv").exists()}


def where(rows: Table, **wanted: object) -> Table:
    """The rows whose columns have these values, in order."""
    return [row for row in rows if all(row.get(column) == str(value) for column, value in wanted.items())]


def one(rows: Table, **wanted: object) -> dict[str, str] | None:
    """The first such row, if there is one."""
    return next(iter(where(rows, **wanted)), None)


def value(rows: Table, column: str, **wanted: object) -> float | None:
    """A number of the first such row, if there is one."""
    row = one(rows, **wanted)
    return float(row[column]) if row and row.get(column) else None


def ratio(rows: Table, column: str, over: str, under: str, **wanted: object) -> float | None:
    """One model's number over another's, if both were measured."""
    above, below = (value(rows, column, model=model, **wanted) for model in (over, under))
    return above / below if above and below else None


def names(rows: Table, column: str) -> list[str]:
    """The distinct values of a column, in order."""
    return list(dict.fromkeys(row[column] for row in rows))


def numbers(rows: Table, column: str) -> list[float]:
    """A column as numbers."""
    return [float(row[column]) for row in rows]


def made_on(rows: Table) -> str:
    """Hardware, versions and commit of some rows, as the end of a caption."""
    row = rows[0]
    return (
        f"{row['cpu']}, {row['cores']} cores; Python {row['python']}, torch {row['torch']}, numba {row['numba']}, "
        f"numpy {row['numpy']}; commit {row['commit'] or 'unknown'}, {row['date']}."
    )
