"""What is missing, behind or weaker than it looks: the 38 one by one, the published baselines, and what fell short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from tasks.suite.anomalies import Note
from tasks.suite.baselines import Gap, baselines_of
from tasks.suite.captions import INDICATIVE
from tasks.suite.coverage import Coverage
from tasks.suite.layout import FAMILY_OF, MAIN_HORIZON
from tasks.suite.margins import MAIN_METRIC
from tasks.suite.overviews import SUMMARY
from tasks.suite.rows import PAIR, Row
from tasks.suite.table import Table
from tasks.suite.tables import MAIN_KEYS

MOST = 12  # of one kind of remark; the tables' notes have them all
Sets = Mapping[tuple[str, str], Sequence[Table]]


class Covered(NamedTuple):
    """One of the 38: our number on the official set, what another variant gave instead, or why there is none."""

    dataset: str
    family: str
    state: str
    number: str
    instead: str
    reason: str
    fix: str


def coverage_of(sets: Sets, coverage: Mapping[str, Coverage]) -> list[Covered]:
    """A line for every one of the 38; a number of another variant is never in the official set's column."""
    official: dict[str, str] = {}
    instead: dict[str, str] = {}
    notes: dict[str, str] = {}
    for (profile, protocol), tables in sets.items():
        for row in (row for table in tables for row in table.rows):
            if not row.cells and row.note:
                notes.setdefault(row.dataset, row.note)
            if row.metric is None or row.metric.name != MAIN_METRIC.get(row.family):
                continue
            if row.horizon not in (None, MAIN_HORIZON):
                continue
            text = f"{_pair(row)} ({row.metric.title}; {profile}, {protocol})"
            if row.origin and row.origin != row.dataset and row.origin in FAMILY_OF:
                instead.setdefault(row.origin, f"{row.dataset}: {text}")
            elif row.cells and row.dataset in FAMILY_OF:
                official.setdefault(row.dataset, text)
    found = []
    for dataset, family in FAMILY_OF.items():
        known = coverage.get(dataset)
        number, other = official.get(dataset, ""), instead.get(dataset, "")
        state = "measured" if number else "another variant" if other else "missing"
        ready = known is None or known.ready
        reason, fix = ("", "") if number else (notes.get(dataset, "not run"), "")
        if not number and known is not None and not ready:
            reason, fix = known.reason, known.fix
        elif not number and ready and reason == "not run":
            fix = f"make reproduce DATASET={dataset}"
        found.append(Covered(dataset, family, state, number, other, reason, fix))
    return found


def _pair(row: Row) -> str:
    cells = [row.cells.get(name) for name in PAIR]
    return " / ".join(cell.text() if cell is not None else "not run" for cell in cells)


def gaps(sets: Sets, references: pd.DataFrame) -> list[tuple[str, Gap]]:
    """Every set's rows that a published baseline stands beside, each with its profile and protocol in words."""
    return [
        (f"{profile}, {protocol}", gap)
        for (profile, protocol), tables in sets.items()
        for gap in baselines_of(
            profile, [row for table in tables if table.key in MAIN_KEYS for row in table.rows], references
        )
    ]


def shortfalls(sets: Sets, covered: Sequence[Covered], problems: Sequence[str], notes: Sequence[Note]) -> list[str]:
    """Sentences on everything a reader must not overlook, the gravest first."""
    said = [f"Left out, unusable: {problem}." for problem in problems]
    for state, words in (
        ("another variant", "have numbers of another variant only, which is not the paper's set"),
        ("missing", "have no number at all"),
    ):
        names = [entry.dataset for entry in covered if entry.state == state]
        if names:
            said.append(f"{len(names)} of the {len(covered)} datasets {words}: {', '.join(names)}.")
    for (profile, protocol), tables in sets.items():
        where = f"{profile}, {protocol}"
        if profile in INDICATIVE:
            said.append(f"{where}: {INDICATIVE[profile]}")
        summaries = [entry for table in tables if table.key == SUMMARY for entry in table.summaries]
        few = sorted({family for family, _, summary in summaries if summary and summary.seeds[0] < 2})
        if few:
            said.append(f"{where}: a single seed in {', '.join(few)}: no verdict can be given there.")
        lines = list(dict.fromkeys(note for table in tables for note in table.notes if _is_shortfall(note)))
        said += [f"{where}: {line.removeprefix('† ')}" for line in lines[:MOST]]
        if len(lines) > MOST:
            said.append(f"{where}: {len(lines) - MOST} more such rows are in the tables' notes.")
    return said + [f"Explained by hand: {_words(note)}" for note in notes]


def _is_shortfall(note: str) -> bool:
    return note.startswith("† ") or " failed: " in note or "more failed jobs" in note or "not averaged in" in note


def _words(note: Note) -> str:
    return f"{', '.join(str(value) for value in note.where.values())}: {note.text}"
