"""Many records in one file that git can hold: `records.csv`, one row a run, lossless, and the coverage beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.suite.atomic import write_atomic
from tasks.suite.coverage import Coverage, load_coverage, save_coverage
from tasks.suite.records import Gathered, RecordError, schema_fields, validate

_WORDS = ("null", "true", "false")
RECORDS_NAME, COVERAGE_NAME = "records.csv", "coverage.csv"


class GatherError(ValueError):
    """A folder of gathered records that cannot be read at all; names the file and the way out."""


def write_gathered(records: Iterable[Mapping[str, Any]], coverage: Mapping[str, Coverage], folder: Path) -> Path:
    """Write `<folder>/records.csv` (every cell but a plain string is JSON, ordered by run id) and `coverage.csv`."""
    fields = schema_fields()
    rows = [[_to_cell(record[field]) for field in fields] for record in sorted(records, key=lambda r: r["run_id"])]
    path = Path(folder) / RECORDS_NAME
    text = pd.DataFrame(rows, columns=list(fields), dtype=str).to_csv(index=False, lineterminator="\n")
    write_atomic(path, text.encode())
    write_atomic(Path(folder) / COVERAGE_NAME, save_coverage(dict(coverage)).encode())
    return path


def read_gathered(folder: Path) -> tuple[Gathered, dict[str, Coverage]]:
    """What `write_gathered` wrote: the records, a problem for every unusable or repeated row, and the coverage.

    Raises:
        GatherError: if a file is missing, or its columns are not a record's fields.
    """
    path = Path(folder) / RECORDS_NAME
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        status = load_coverage(Path(folder) / COVERAGE_NAME)
    except (OSError, ValueError) as error:
        raise GatherError(f"{error}; gather them with scripts/tables.py --gather {folder}") from error
    if tuple(frame.columns) != schema_fields():
        raise GatherError(f"{path}: the columns are not a record's fields; gather the runs again")
    records: dict[str, dict[str, Any]] = {}
    problems: list[RecordError] = []
    for position, row in enumerate(frame.to_dict("records")):
        where = f"{path}: line {position + 2}"
        try:
            record = {str(key): _from_cell(value) for key, value in row.items()}
            validate(record, where)
        except RecordError as error:
            problems.append(error)
            continue
        except ValueError as error:
            problems.append(RecordError(where, f"not JSON ({error})"))
            continue
        if record["run_id"] in records:
            problems.append(RecordError(where, f"repeats run {record['run_id']}", "keep one of the two rows"))
            continue
        records[record["run_id"]] = record
    return Gathered([records[name] for name in sorted(records)], problems), status


def _to_cell(value: Any) -> str:
    if isinstance(value, str) and _is_plain(value):
        return value
    return "" if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _from_cell(text: str) -> Any:
    return None if not text else text if _is_plain(text) else json.loads(text)


def _is_plain(text: str) -> bool:
    """Whether a string stands for itself: it could not be taken for JSON, and keeps a row on one line."""
    return bool(text) and text[0] not in '"{[-0123456789' and text not in _WORDS and text.isprintable()
