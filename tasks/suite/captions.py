"""The words around a table: under which rules its numbers arose, and what the reader must not overlook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.suite.rows import PAIR, Row

Record = Mapping[str, Any]
MOST_FAILURES = 12  # a sentence each; more would bury the table
INDICATIVE = {
    "smoke": "A smoke test of seconds a job: the numbers only show that everything runs.",
    "quick": "Indicative numbers: small models and short budgets, counted in optimiser steps.",
}


def caption(title: str, profile: str, protocol: str, records: Sequence[Record], command: str) -> str:
    """Title, profile, protocol and its version, split, selection rule, commit, hardware and command."""
    versions = _list({f"{r['protocol_version']}" for r in records})
    parts = [
        f"{title}.",
        f"Profile {profile}; protocol {protocol}" + (f", version {versions}." if versions else "."),
        INDICATIVE.get(profile, ""),
        "Test split; model selected by " + (_list({_selection(r) for r in records} - {""}) or "nothing yet") + ".",
    ]
    if records:
        parts.append(f"Commit {_list({commit_of(r) for r in records})}.")
        parts.append(f"Hardware: {_list({hardware_of(r) for r in records})}.")
    parts.append(f"Command: {command}")
    return " ".join(part for part in parts if part)


def footnotes(rows: Sequence[Row]) -> tuple[str, ...]:
    """A sentence for every mark in the rows: a trivial rule ahead, other options, failed jobs, runs left out."""
    notes = []
    for row in rows:
        ahead = row.rules_ahead()
        if ahead:
            pair = [row.cells[name] for name in PAIR if name in row.cells and row.cells[name].values]
            rules = _list(f"{cell.model} ({cell.mean:.{cell.metric.digits}f})" for cell in ahead)
            models = " and ".join(f"{cell.model} ({cell.mean:.{cell.metric.digits}f})" for cell in pair)
            verb = "is" if len(ahead) == 1 else "are"
            notes.append(f"† {row.place}: the trivial rule {rules} {verb} better than {models}.")
    if any(not cell.same_options for row in rows for cell in row.cells.values()):
        notes.append("‡ Trained with other options than the row's other models.")
    if any(cell.failed for row in rows for cell in row.cells.values()):
        notes.append("failed (k of n): k of n jobs failed; a number beside it is the mean of the others only.")
    failures = [record for row in rows for record in row.failures]
    notes += [f"{record['run_id']} failed: {_brief(record['reason'])}." for record in failures[:MOST_FAILURES]]
    if len(failures) > MOST_FAILURES:
        notes.append(f"{len(failures) - MOST_FAILURES} more failed jobs say why in their records.")
    for row in rows:
        if row.left_out:
            runs = _list(record["run_id"] for record in row.left_out)
            horizon = "" if row.horizon is None else f", horizon {row.horizon}"
            notes.append(f"{row.dataset}{horizon}: runs of another configuration, not averaged in: {runs}.")
    return tuple(notes)


def _brief(reason: str) -> str:
    first = reason.strip().splitlines()[0].rstrip(".")
    return first if len(first) <= 160 else first[:157] + "..."


def _list(items: Any) -> str:
    return ", ".join(sorted(items))


def _selection(record: Record) -> str:
    selection = record["selection"]
    if not selection or selection.get("mode") == "last":
        return selection["metric"] if selection else ""
    return f"{selection['split']} {selection['metric']}"


def commit_of(record: Record) -> str:
    """The commit a run was made at, shortened; says so where files had local changes."""
    commit, dirty = record["git"]["commit"], record["git"]["dirty"]
    return (commit[:10] if commit else "unknown") + (" with local changes" if dirty else "")


def hardware_of(record: Record) -> str:
    """Processor, cores and GPU of a run."""
    hardware = record["hardware"]
    gpu = f" and {hardware['gpu']}" if hardware.get("gpu") else ""
    return f"{hardware.get('cpu', 'unknown')} ({hardware.get('cores', '?')} cores){gpu}"
