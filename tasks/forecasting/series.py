"""Readers: a file becomes a `Series`, or a `DatasetError` that says where it is wrong.

Formats: our parquet (`date` as a timestamp, float columns), the Time Series Library's CSV (`date` and one column a
channel, target last), and with it the one-channel temperature CSVs that ship inside vega-datasets.
Readers are strict: no cell is guessed, dropped or filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from tasks.errors import DatasetError
from tasks.parquet import ParquetError, read_table

FRESH_COPY = "get a fresh copy: python scripts/data.py get {name}, then python scripts/data.py verify {name}"
# The ways in which the published CSVs write a time stamp.
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d")
DATE = r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}( [0-9]{1,2}:[0-9]{2}(:[0-5][0-9])?)?"


class Series(NamedTuple):
    """A multivariate series: `values` [N, C] float32, `dates` [N] int64 ms since 1970, `columns` [C] names."""

    values: np.ndarray
    dates: np.ndarray
    columns: np.ndarray


def read_series(path: Path, name: str) -> Series:
    """Read one series, target column last.

    Args:
        path: the file; its suffix decides the format.
        name: the dataset, for the message that says how to get a good copy.

    Raises:
        DatasetError: not this format, not finite, not in order of time, a missing or odd column; with the
            line and column where there are any.
    """
    if path.suffix == ".parquet":
        return _checked(_read_parquet(path, name), path, name, first_line=1)
    if path.suffix == ".csv":
        return _checked(_read_csv(path, name), path, name, first_line=2)
    raise DatasetError(path, f"unknown format {path.suffix!r}", "give a .parquet or a .csv file")


def check_shape(series: Series, shape: tuple[int, int], path: Path, name: str) -> None:
    """The rows and channels that the manifest states.

    Raises:
        DatasetError: another shape.
    """
    if series.values.shape != shape:
        found, wanted = (f"{rows} rows x {channels} channels" for rows, channels in (series.values.shape, shape))
        raise DatasetError(path, f"{found}, but {name} has {wanted}", FRESH_COPY.format(name=name))


def check_statistics(series: Series, stated: Mapping[str, Any], path: Path, name: str) -> None:
    """The mean and (population) standard deviation of each channel that the manifest states, to 1e-6.

    Raises:
        DatasetError: another value, with the column.
    """
    values = series.values.astype(np.float64)
    for statistic, found in (("mean", values.mean(0)), ("std", values.std(0))):
        # A mean may be near zero: what counts is its distance on the scale of the channel.
        wrong = np.abs(found - np.asarray(stated.get(statistic, found))) > 1e-6 * (values.std(0) + np.abs(found))
        if wrong.any():
            column = int(np.argmax(wrong))
            reason = f"column {str(series.columns[column])!r} has {statistic} {found[column]:.9g}, not {name}'s"
            raise DatasetError(path, reason, FRESH_COPY.format(name=name))


def join_columns(parts: Mapping[str, Series], path: Path, name: str) -> Series:
    """One series: the file itself where there is one, else a channel a file, named by the files' roles.

    Raises:
        DatasetError: the files disagree on the dates.
    """
    first = next(iter(parts.values()))
    if len(parts) == 1:
        return first
    for part in parts.values():
        if not np.array_equal(part.dates, first.dates) or part.values.shape[1] != 1:
            raise DatasetError(path, "its rows are not those of its sister file", FRESH_COPY.format(name=name))
    return Series(np.concatenate([part.values for part in parts.values()], 1), first.dates, np.array(list(parts)))


def _read_parquet(path: Path, name: str) -> Series:
    try:
        table = read_table(path)
    except ParquetError as error:
        raise _broken(path, name, "parquet", error) from error
    if "date" not in table.column_names or not pa.types.is_timestamp(table.schema.field("date").type):
        raise DatasetError(path, "no timestamp column called 'date'", FRESH_COPY.format(name=name))
    dates = table.column("date")
    if dates.null_count:
        raise DatasetError(path, f"column 'date' has {dates.null_count} empty cells", FRESH_COPY.format(name=name))
    stamps = dates.to_numpy().astype("datetime64[ms]").astype(np.int64)
    return Series(_columns(table.drop_columns(["date"]), path, name), stamps, _names(table.column_names, "date"))


def _read_csv(path: Path, name: str) -> Series:
    header = _header(path, name)
    if "date" not in header:
        raise DatasetError(path, f"line 1 has no column 'date', it reads {header[:4]}", FRESH_COPY.format(name=name))
    if len(set(header)) < len(header) or len(header) < 2:
        raise DatasetError(path, "line 1 repeats a column or names no channel", FRESH_COPY.format(name=name))
    if not "".join(header).isprintable():  # numpy drops zero bytes at the end of a name
        raise DatasetError(path, "line 1 has a control character in it", FRESH_COPY.format(name=name))
    types = {column: pa.string() if column == "date" else pa.float64() for column in header}
    table = _read_text(path, name, path.read_bytes(), types, header)
    return Series(
        _columns(table.drop_columns(["date"]), path, name),
        _parse_dates(table.column("date").to_numpy(zero_copy_only=False), path, name),
        _names(header, "date"),
    )


def _header(path: Path, name: str) -> list[str]:
    """Line 1. Tolerates a byte-order mark, and nothing else."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        return line.decode("utf-8-sig").rstrip("\r\n").split(",")
    except UnicodeDecodeError as error:
        raise _broken(path, name, "CSV", error) from error


def _read_text(path: Path, name: str, text: bytes, types: dict[str, pa.DataType], header: list[str]) -> pa.Table:
    options = {
        # One block, one thread: only then do arrow's messages carry the row.
        "read_options": arrow_csv.ReadOptions(
            use_threads=False, column_names=header, skip_rows=1, block_size=max(len(text), 1) + 1
        ),
        "parse_options": arrow_csv.ParseOptions(ignore_empty_lines=False, quote_char=False),
        "convert_options": arrow_csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
    }
    try:
        return arrow_csv.read_csv(pa.py_buffer(text), **options)
    except (pa.ArrowException, ValueError) as error:
        raise _broken(path, name, "CSV", error) from error


def _columns(table: pa.Table, path: Path, name: str) -> np.ndarray:
    """The channels as float32 [N, C]; float32 keeps each published digit (protocol, section 3)."""
    for field in table.schema:
        if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
            raise DatasetError(path, f"column {field.name!r} holds {field.type}", FRESH_COPY.format(name=name))
        if table.column(field.name).null_count:
            raise DatasetError(path, f"column {field.name!r} has empty cells", FRESH_COPY.format(name=name))
    values = np.empty((table.num_rows, table.num_columns), np.float32)
    with np.errstate(over="ignore"):  # what does not fit into float32 becomes inf, which _checked reports
        for index, column in enumerate(table.columns):
            values[:, index] = column.to_numpy()
    return values


def _names(columns: list[str], date: str) -> np.ndarray:
    return np.array([column for column in columns if column != date])


def _parse_dates(cells: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Strings to int64 milliseconds; all cells in the format of the first."""
    import pandas as pd

    for form in DATE_FORMATS if len(cells) else ():
        try:
            pd.to_datetime(cells[:1], format=form)
        except ValueError:
            continue
        parsed = pd.to_datetime(cells, format=form, errors="coerce")
        # pandas takes a date without a year for one of year 0
        wrong = np.flatnonzero(parsed.isna() | ~pd.Series(cells).str.fullmatch(DATE).to_numpy(bool))
        if wrong.size:
            reason = f"line {wrong[0] + 2}, column 'date': {str(cells[wrong[0]])[:40]!r} is no date like line 2's"
            raise DatasetError(path, reason, FRESH_COPY.format(name=name))
        return parsed.to_numpy().astype("datetime64[ms]").astype(np.int64)
    found = repr(str(cells[0])[:40]) if len(cells) else "no line"
    raise DatasetError(path, f"line 2, column 'date': {found} is no known date", FRESH_COPY.format(name=name))


def _checked(series: Series, path: Path, name: str, first_line: int) -> Series:
    values, dates, columns = series
    if not values.size:
        raise DatasetError(path, "no rows or no channels", FRESH_COPY.format(name=name))
    row, column = _first(~np.isfinite(values))
    if row is not None:
        reason = f"line {row + first_line}, column {str(columns[column])!r}: {values[row, column]} is no finite float32"
        raise DatasetError(path, reason, FRESH_COPY.format(name=name))
    row, _ = _first(np.diff(dates)[:, None] < 0)
    if row is not None:
        reason = f"line {row + 1 + first_line}, column 'date': earlier than the line before"
        raise DatasetError(path, reason, FRESH_COPY.format(name=name))
    return series


def _first(wrong: np.ndarray) -> tuple[int | None, int | None]:
    """Row and column of the first True."""
    if not wrong.any():
        return None, None
    row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return int(row), int(column)


def _broken(path: Path, name: str, form: str, error: Exception) -> DatasetError:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return DatasetError(path, f"a web page, not {form}", FRESH_COPY.format(name=name))
    detail = " ".join(str(error).split())[:200]
    return DatasetError(path, f"not readable as {form}: {detail}", FRESH_COPY.format(name=name))
