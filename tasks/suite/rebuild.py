"""Records in, every table out: what `scripts/tables.py` and the end of `make reproduce` call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tasks.suite.coverage import Coverage
from tasks.suite.coverage import coverage as look_up
from tasks.suite.gathered import GatherError, read_gathered, write_gathered
from tasks.suite.records import RecordError, read_all
from tasks.suite.references import load_references
from tasks.suite.table import Table
from tasks.suite.tables import MAIN_PROTOCOL, build, sets_of, write_tables

__all__ = ["GatherError", "Rebuilt", "rebuild"]


class Rebuilt(NamedTuple):
    """The tables by (profile, protocol), the files written, an error for every record left out; and what went in."""

    tables: dict[tuple[str, str], list[Table]]
    files: list[Path]
    problems: list[RecordError]
    records: list[dict[str, Any]]
    coverage: Mapping[str, Coverage]
    references: pd.DataFrame


def rebuild(
    runs: Sequence[Path],
    out: Path,
    *,
    gathered: Path | None = None,
    gather: Path | None = None,
    profile: str = "quick",
    protocol: str = MAIN_PROTOCOL,
    prefer: Collection[str] = (),
    coverage: Mapping[str, Coverage] | None = None,
    references: pd.DataFrame | None = None,
    command: str | None = None,
) -> Rebuilt:
    """Read every record under `runs` (or in the folder `gathered`) and write all tables under `out`.

    Args:
        gather: also write the records and the coverage there, in the form that `gathered` reads.
        profile, protocol: the set to show when there are no records yet.
        prefer: run ids or config hashes of the current plan; they win where a row has runs of several configurations.
        coverage: what is ready; None looks it up here, or reads it beside the gathered records.
        references: published numbers; None loads results/reference, with what was imported from the paper unless the
            records are gathered ones: committed tables must not depend on what this machine has imported.
        command: the caption's command; None derives it.

    Raises:
        GatherError, ReferenceTableError, WriteError: a file that cannot be read or written, named.
    """
    if gathered is not None:
        (records, problems), stored = read_gathered(gathered)
        coverage = stored if coverage is None else coverage
    else:
        records, problems = read_all(*runs)
        coverage = look_up() if coverage is None else coverage
    if gather is not None:
        write_gathered(records, coverage, gather)
    references = load_references(imported=gathered is None) if references is None else references
    tables: dict[tuple[str, str], list[Table]] = {}
    files: list[Path] = []
    for key in sets_of(records) or [(profile, protocol)]:
        tables[key] = build(
            [record for record in records if (record["profile"], record["protocol"]) == key],
            profile=key[0],
            protocol=key[1],
            coverage=coverage,
            references=references,
            prefer=prefer,
            problems=[short(problem) for problem in problems],
            command=command,
        )
        files += write_tables(tables[key], out, *key)
    return Rebuilt(tables, files, problems, records, coverage, references)


def short(problem: RecordError) -> str:
    """A problem without this machine's folders: tables get published."""
    return f"{Path(*problem.path.parts[-2:])} ({problem.reason})"
