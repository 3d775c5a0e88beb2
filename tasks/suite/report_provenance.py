"""Where each number comes from: its runs, with seed, commit, command, machine; every repeated text stored once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.suite.captions import commit_of, hardware_of
from tasks.suite.cells import Cell
from tasks.suite.rows import Row

Record = Mapping[str, Any]


class Provenance:
    """Collects the cells of a page; `blob` is what its script reads.

    A run is [id, seed, fold, status, command, commit, hardware, data, seconds, finished], texts as positions in
    `texts`; a cell is [place, model, test items, runs, values], runs as positions in `runs`, values as printed.
    """

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records
        self._texts: dict[str, int] = {}
        self._runs: dict[str, int] = {}
        self._rows: list[list[Any]] = []
        self._cells: list[list[Any]] = []

    def add(self, row: Row, cell: Cell, profile: str, protocol: str) -> int | None:
        """The number under which the page finds this cell's runs; None where no run of it is known."""
        runs = [run for run in cell.runs if run in self._records]
        if not runs:
            return None
        values = []
        for run in runs:
            record = self._records[run]
            measure = record["metrics"].get("test", {}).get(cell.metric.name)
            shown = f"{measure['value'] * cell.metric.scale:.{cell.metric.digits + 2}f}" if measure else ""
            values.append(shown if record["status"] == "done" else "")
        place = f"{row.place} · {profile}, {protocol}"
        items = " / ".join(f"{n:,}" for n in cell.n)
        self._cells.append([self._text(place), cell.model, items, [self._run(run) for run in runs], values])
        return len(self._cells) - 1

    def blob(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"texts": list(self._texts), "runs": self._rows, "cells": self._cells}

    def _run(self, run: str) -> int:
        if run not in self._runs:
            record = self._records[run]
            texts = [record["command"] or "", commit_of(record), hardware_of(record), _data(record)]
            self._runs[run] = len(self._rows)
            self._rows.append(
                [
                    *(record[key] for key in ("run_id", "seed", "fold", "status")),
                    *(self._text(text) for text in texts),
                    round(record["wall_seconds"] or 0, 1),
                    (record["finished"] or "")[:10],
                ]
            )
        return self._runs[run]

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))


def _data(record: Record) -> str:
    hashes = ", ".join(f"{role} {digest[:12]}" for role, digest in sorted(record["data"]["sha256"].items()))
    source = record["data"].get("source") or "unknown source"
    return f"{record['label']} ({record['variant']}), {source}" + (f"; SHA-256 {hashes}" if hashes else "")
