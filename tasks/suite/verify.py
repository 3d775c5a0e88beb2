"""Is what lies in a results folder fit to be published? Every doubt is a finding: where, what, and the way out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tasks.suite.anomalies import NOTES_NAME, Anomaly, Note, anomalies
from tasks.suite.coverage import Coverage
from tasks.suite.headline import HeadlineError, replaced
from tasks.suite.layout import FAMILY_OF, LAYOUTS
from tasks.suite.records import RecordError
from tasks.suite.rows import extra_rows, main_rows
from tasks.suite.tables import EXTENSIONS, sets_of

Record = Mapping[str, Any]
_RERUN = "run the job again and gather the records anew"


class Finding(NamedTuple):
    """`serious` findings must be mended; the others are remarks, and do not change the exit code."""

    where: str
    what: str
    fix: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.fix}" if self.fix else "")


def of_problems(problems: Iterable[RecordError]) -> list[Finding]:
    """Records that break the schema, their checksum or their identity, or repeat another one."""
    return [Finding(str(problem.path), problem.reason, problem.fix) for problem in problems]


def of_records(records: Sequence[Record], stale: Mapping[str, str], coverage: Mapping[str, Coverage]) -> list[Finding]:
    """Doubts about single records and about their set.

    Args:
        stale: run id -> why it is outdated, from `tasks.staleness`.
        coverage: which datasets were at hand; all 38 must be in it.
    """
    found: list[Finding] = []
    rivals: dict[tuple[Any, ...], dict[str, str]] = defaultdict(dict)
    for record in records:
        where = f"run {record['run_id']}"
        if record["run_id"] in stale:
            found.append(Finding(where, f"stale: {stale[record['run_id']]}", ""))
        if record["git"]["dirty"] is not False:
            what = "made with local changes" if record["git"]["dirty"] else "made outside a git checkout"
            found.append(Finding(where, what, f"commit first, then {_RERUN}"))
        found += [Finding(where, what, _RERUN) for what in _bad_numbers(record)]
        if record["status"] == "failed":
            found.append(Finding(where, f"failed: {record['reason']}", "the tables say so", serious=False))
        place = ("profile", "protocol", "label", "horizon", "model", "seed", "fold")
        if record["status"] != "unavailable":
            rivals[tuple(record[key] for key in place)][record["config_hash"]] = record["run_id"]
    for runs in rivals.values():
        if len(runs) > 1:
            names = ", ".join(sorted(runs.values()))
            found.append(Finding(f"runs {names}", "several configurations of one cell and seed", "keep one of them"))
    for dataset in FAMILY_OF:
        if dataset not in coverage:
            found.append(Finding("coverage.csv", f"says nothing on {dataset}", "gather the records anew"))
    return found


def of_tables(folder: Path, fresh: Mapping[str, bytes], command: str) -> list[Finding]:
    """Whether `folder` holds exactly the `fresh` files (path below it -> content), byte for byte."""
    there = {
        str(path.relative_to(folder)): path for path in sorted(folder.rglob("*.*")) if path.suffix[1:] in EXTENSIONS
    }
    found = [Finding(str(folder / name), "missing", f"rebuild it: {command}") for name in fresh if name not in there]
    for name, path in there.items():
        if name not in fresh:
            found.append(Finding(str(path), "belongs to no record", f"rebuild the tables: {command}"))
        elif path.read_bytes() != fresh[name]:
            what = "is not what the records say: edited, or older than they are"
            found.append(Finding(str(path), what, f"rebuild it: {command}"))
    return found


def of_readme(path: Path, lines: str) -> list[Finding]:
    """Whether the README's first screen is what the records say: `lines`, from `headline.block`."""
    text = path.read_text(encoding="utf-8")
    try:
        same = replaced(text, lines) == text
    except HeadlineError as error:
        return [Finding(str(path), str(error), "then make report")]
    return [] if same else [Finding(str(path), "its first numbers are not what the records say", "make report")]


def of_references(
    records: Sequence[Record], references: pd.DataFrame, coverage: Mapping[str, Coverage], notes: Sequence[Note]
) -> list[Finding]:
    """Cells that are too good to be believed without a note, and notes that explain nothing (any more)."""
    suspects = suspicious(records, references, coverage)
    found = [
        Finding(suspect.place, suspect.what, f"find out why, and say so in {NOTES_NAME}")
        for suspect in suspects
        if not any(note.covers(suspect) for note in notes)
    ]
    for note in notes:
        if not any(note.covers(suspect) for suspect in suspects):
            what = f"the note {note.text[:60]!r} is for no suspicious cell"
            found.append(Finding(NOTES_NAME, what, "remove it", serious=False))
    return found


def suspicious(records: Sequence[Record], references: pd.DataFrame, coverage: Mapping[str, Coverage]) -> list[Anomaly]:
    """Every suspicious cell of every profile and protocol; one in several tables counts once."""
    found: dict[tuple[Any, ...], Anomaly] = {}
    for profile, protocol in sets_of(records):
        own = [record for record in records if (record["profile"], record["protocol"]) == (profile, protocol)]
        rows = [row for layout in LAYOUTS for row in main_rows(layout, own, coverage)]
        rows += [row for family in sorted({record["family"] for record in own}) for row in extra_rows(family, own)]
        for anomaly in anomalies(profile, protocol, rows, references):
            found.setdefault(anomaly[:6], anomaly)
    return list(found.values())


def all_ready() -> dict[str, Coverage]:
    """The coverage to check a folder of runs with: it keeps none, and what is missing is not its business."""
    return {dataset: Coverage(True, dataset) for dataset in FAMILY_OF}


def _bad_numbers(record: Record) -> list[str]:
    bad: list[str] = []
    for split, measures in record["metrics"].items():
        for name, measure in measures.items():
            if not math.isfinite(measure["value"]):
                bad.append(f"{split} {name} is {measure['value']}")
            elif name == "accuracy" and not 0 <= measure["value"] <= 1:
                bad.append(f"{split} accuracy {measure['value']} is no fraction")
            if measure["n"] == 0:
                bad.append(f"{split} {name} was scored on nothing")
    return bad
