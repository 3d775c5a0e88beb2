"""Readers: every format, every way to be wrong, and a fuzz of the CSV reader against a slow oracle."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest

from tasks.errors import DatasetError
from tasks.forecasting.series import Series, check_shape, join_columns, read_series

CSV = b"date,HUFL,OT\n2016-07-01 00:00:00,5.827,30.53\n2016-07-01 01:00:00,-1e-3,27.78\n2016-07-01 02:00:00,5,0.1\n"
VALUES = np.array([[5.827, 30.53], [-1e-3, 27.78], [5, 0.1]], np.float32)
DATES = np.array(["2016-07-01T00", "2016-07-01T01", "2016-07-01T02"], "datetime64[ms]").astype(np.int64)


def _write(tmp_path: Path, content: bytes, name: str = "series.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def _parquet(tmp_path: Path, columns: dict) -> Path:
    path = tmp_path / "series.parquet"
    arrow_parquet.write_table(pa.table(columns), path, compression="zstd")
    return path


def _good_columns() -> dict:
    return {"date": pa.array(DATES, pa.timestamp("ms")), "HUFL": VALUES[:, 0], "OT": VALUES[:, 1]}


def _is_good(series: Series) -> None:
    np.testing.assert_array_equal(series.values, VALUES)
    np.testing.assert_array_equal(series.dates, DATES)
    assert list(series.columns) == ["HUFL", "OT"]
    assert series.values.dtype == np.float32


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        CSV.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + CSV,
        CSV[:-1],
        CSV.replace(b"-", b"/").replace(b"/1e/3", b"-1e-3"),
    ],
    ids=["plain", "crlf", "byte-order mark", "no last newline", "slashes"],
)
def test_csv(tmp_path, content):
    _is_good(read_series(_write(tmp_path, content), "ETTh1"))


def test_csv_with_the_date_last(tmp_path):
    content = b"temp,date\n47.8,2010/01/01 00:00:00\n47.4,2010/01/01 01:00:00\n"
    series = read_series(_write(tmp_path, content), "extra/us-temperatures")
    np.testing.assert_array_equal(series.values, np.array([[47.8], [47.4]], np.float32))


def test_parquet_equals_csv(tmp_path):
    _is_good(read_series(_parquet(tmp_path, _good_columns()), "ETTh1"))


BAD_CSV = {
    "empty": (b"", "no column 'date'"),
    "header alone": (CSV[:13], "no line|no rows"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "no column 'date'"),
    "web page behind a header": (b"<html>,date\n<p>404</p>\n", "a web page, not CSV"),
    "gzip": (gzip.compress(CSV, mtime=0), "not readable as CSV|no column 'date'"),
    "truncated": (CSV[:-12], "Expected 3 columns, got 2|Row"),
    "missing cell": (CSV.replace(b"27.78", b""), "line 3, column 'OT'|HUFL|conversion error"),
    "word": (CSV.replace(b"27.78", b"cold"), "'cold'"),
    "nan": (CSV.replace(b"27.78", b"nan"), "line 3, column 'OT'"),
    "infinity": (CSV.replace(b"-1e-3", b"inf"), "line 3, column 'HUFL'"),
    "beyond float32": (CSV.replace(b"-1e-3", b"1e39"), "line 3, column 'HUFL'"),
    "beyond float64": (CSV.replace(b"-1e-3", b"1e400"), "line 3, column 'HUFL'"),
    "no date": (CSV.replace(b"2016-07-01 01:00:00", b"yesterday"), "line 3, column 'date': 'yesterday'"),
    "no known date": (CSV.replace(b"2016-07-01 ", b"first of July "), "line 2, column 'date'"),
    "back in time": (CSV.replace(b"01 02:00", b"01 00:30"), "line 4, column 'date': earlier"),
    "column twice": (CSV.replace(b"HUFL", b"OT"), "line 1 repeats"),
    "no date column": (CSV.replace(b"date", b"time"), "line 1 has no column 'date'"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv_is_an_error_with_path_place_and_fix(tmp_path, case):
    content, reason = BAD_CSV[case]
    path = _write(tmp_path, content)
    with pytest.raises(DatasetError, match=reason) as caught:
        read_series(path, "ETTh1")
    assert caught.value.path == str(path)
    assert (
        caught.value.fix
        == "get a fresh copy: python scripts/data.py get ETTh1, then python scripts/data.py verify ETTh1"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"date": VALUES[:, 0]}, "no timestamp column"),
        ({"OT": pa.array(["a", "b", "c"])}, "'OT' holds string"),
        ({"OT": pa.array([1.0, None, 2.0], pa.float32())}, "'OT' has empty cells"),
        ({"OT": np.array([1, np.inf, 2], np.float32)}, "line 2, column 'OT'"),
        ({"date": pa.array(DATES[::-1].copy(), pa.timestamp("ms"))}, "earlier"),
        ({"date": pa.array([None, *DATES[1:].tolist()], pa.timestamp("ms"))}, "'date' has 1 empty"),
    ],
)
def test_a_bad_parquet_schema_is_an_error(tmp_path, change, reason):
    with pytest.raises(DatasetError, match=reason):
        read_series(_parquet(tmp_path, _good_columns() | change), "ETTh1")


def test_a_truncated_parquet_is_an_error_wherever_it_ends(tmp_path):
    whole = _parquet(tmp_path, _good_columns()).read_bytes()
    for end in np.linspace(0, len(whole) - 1, 100).astype(int):
        with pytest.raises(DatasetError, match="not readable as parquet"):
            read_series(_write(tmp_path, whole[:end], "series.parquet"), "ETTh1")


def test_an_unknown_format_and_a_wrong_shape_are_errors(tmp_path):
    with pytest.raises(DatasetError, match=r"unknown format '\.xlsx'"):
        read_series(_write(tmp_path, b"", "series.xlsx"), "ETTh1")
    with pytest.raises(DatasetError, match="3 rows x 2 channels, but ETTh1 has 17420 rows x 7 channels"):
        check_shape(Series(VALUES, DATES, np.array(["a", "b"])), (17420, 7), tmp_path, "ETTh1")


def test_files_of_one_series_must_agree_on_the_dates(tmp_path):
    one = Series(VALUES[:, :1], DATES, np.array(["temp"]))
    joined = join_columns({"seattle": one, "san_francisco": one}, tmp_path, "extra/us-temperatures")
    assert joined.values.shape == (3, 2)
    assert list(joined.columns) == ["seattle", "san_francisco"]
    with pytest.raises(DatasetError, match="sister file"):
        join_columns({"seattle": one, "san_francisco": one._replace(dates=DATES + 1)}, tmp_path, "x")


@pytest.mark.parametrize(("rows", "channels"), [(2630, 321), (877, 862)], ids=["ECL", "Traffic"])
def test_a_stand_in_as_wide_as_ecl_and_traffic_reads_through_the_same_code(tmp_path, rows, channels):
    values = np.random.default_rng(0).gamma(2, 500, (rows, channels)).round(1)
    dates = np.datetime64("2016-07-01T02:00:00") + np.arange(rows) * np.timedelta64(1, "h")
    header = ",".join(["date", *map(str, range(channels - 1)), "OT"])
    lines = [
        ",".join([str(date).replace("T", " "), *map(str, row)])
        for date, row in zip(dates, values.tolist(), strict=True)
    ]
    series = read_series(_write(tmp_path, "\n".join([header, *lines]).encode()), "ECL")
    np.testing.assert_array_equal(series.values, values.astype(np.float32))
    assert series.columns[-1] == "OT"
    assert series.dates[-1] == dates[-1].astype("datetime64[ms]").astype(np.int64)
