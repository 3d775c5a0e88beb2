"""Cells that look too good: better than the published number they are held against, by more than chance explains.

A bug that leaks the answer looks just like that, so each such cell needs a note (`notes.yaml` beside the records).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from tasks.suite.cells import Cell
from tasks.suite.margins import MARGINS
from tasks.suite.references import PAPER_MODELS, PAPER_SOURCE
from tasks.suite.rows import Row

NOTES_NAME = "notes.yaml"
STANDARD_ERRORS = 3.0
MARGINS_WITH_ONE_SEED = 3.0  # one seed has no standard error: three margins of equivalence stand in for it
# The published model that each family's models are held against, best match first, after the paper's own numbers.
BASELINES = {
    "rl": ("Decision Transformer", "Decision Transformer (CORL), last"),
    "events": ("IFTPP, transformer",),
    "forecasting": ("Non-stationary Transformer", "Stationary"),
    "classification": ("Transformer",),
}
# Likelihoods and errors of event sets depend on time unit and normaliser: only accuracy compares across papers.
NOT_COMPARABLE = frozenset({("events", "nll"), ("events", "rmse")})
# Rules without anything to fit: ours must give the published value, not just come near it.
EXACT = {"repeat the last value": "repeat_last", "repeat the last mark": "repeat_mark"}
_PAPERS: dict[str, str] = dict(zip(("aaren", "transformer"), PAPER_MODELS, strict=True))
_PLACE = ("profile", "protocol", "dataset", "horizon", "metric", "model")


class NotesError(ValueError):
    """A notes file that cannot be read; names file, entry and the way out."""


class Anomaly(NamedTuple):
    """A suspicious cell: where it is, and what is suspicious about it."""

    profile: str
    protocol: str
    dataset: str
    horizon: int | str | None
    metric: str
    model: str
    what: str

    @property
    def place(self) -> str:
        """The cell in words."""
        horizon = "" if self.horizon is None else f", horizon {self.horizon}"
        return f"{self.profile}-{self.protocol}: {self.dataset}{horizon}, {self.metric}, {self.model}"


class Note(NamedTuple):
    """An explanation, and the cells it is for: those that agree with every field it gives."""

    where: Mapping[str, Any]
    text: str

    def covers(self, anomaly: Anomaly) -> bool:
        """Whether the note explains this cell."""
        return all(str(getattr(anomaly, key)) == str(value) for key, value in self.where.items())


def read_notes(path: Path) -> list[Note]:
    """The notes in a YAML list of mappings: `note`, and any of profile, protocol, dataset, horizon, metric, model.

    A file that does not exist holds no notes.

    Raises:
        NotesError: not such a list, an unknown field, or an entry without a note or without a dataset or metric.
    """
    if not path.exists():
        return []
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise NotesError(f"{path}: not YAML ({error}); mend the file") from error
    if not isinstance(entries, list):
        raise NotesError(f"{path}: must be a list of notes, each a mapping that begins with '- '; mend the file")
    notes: list[Note] = []
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: note {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("note"), str) or not entry["note"].strip():
            raise NotesError(f"{where} has no text; write it under 'note:'")
        unknown = sorted(set(map(str, entry)) - {"note", *_PLACE})
        if unknown:
            raise NotesError(f"{where} has the unknown field {unknown[0]!r}; there are note, {', '.join(_PLACE)}")
        if not {"dataset", "metric"} & set(entry):
            raise NotesError(f"{where} would explain every cell; give it a dataset or a metric")
        notes.append(Note({key: value for key, value in entry.items() if key != "note"}, entry["note"].strip()))
    return notes


def anomalies(profile: str, protocol: str, rows: Iterable[Row], references: pd.DataFrame) -> list[Anomaly]:
    """Every suspicious cell of the rows, in their order.

    Suspicious is a trained model that is better than its reference by more than three standard errors (over seeds; with
    one seed: by more than three margins of equivalence, `margins.MARGINS`), and a rule without training that does not
    reproduce its published value to the last printed digit.
    """
    known: dict[tuple[str, str, str, str], list[Mapping[Any, Any]]] = {}
    for line in references.to_dict("records"):
        known.setdefault((line["family"], line["dataset"], line["horizon"], line["metric"]), []).append(line)
    found: list[Anomaly] = []
    for row in rows:
        if row.metric is None or (row.family, row.metric.name) in NOT_COMPARABLE:
            continue
        horizon = "" if row.horizon is None else str(row.horizon)
        lines = known.get((row.family, row.published_as, horizon, row.metric.name), [])
        for cell in row.cells.values():
            what = _too_good(row.family, cell, lines) if cell.trained else _inexact(cell, lines)
            if what:
                found.append(Anomaly(profile, protocol, row.dataset, row.horizon, row.metric.name, cell.model, what))
    return found


def baseline(family: str, model: str, lines: Sequence[Mapping[Any, Any]]) -> Mapping[Any, Any] | None:
    """The published number that a model is held against: the paper's own, else the family's best match, else None.

    `lines` are the reference's lines for the cell's dataset, horizon and metric.
    """
    own = [line for line in lines if line["source"] == PAPER_SOURCE and line["model"] == _PAPERS.get(model)]
    named = [line for name in BASELINES.get(family, ()) for line in lines if line["model"] == name]
    return (own or named or [None])[0]


def _too_good(family: str, cell: Cell, lines: Sequence[Mapping[Any, Any]]) -> str:
    line = baseline(family, cell.model, lines)
    n, digits = cell.done, cell.metric.digits
    if n == 0 or line is None:
        return ""
    published = line["value"] * cell.metric.scale
    gain = cell.mean - published if cell.higher_is_better else published - cell.mean
    if n > 1:
        bound = STANDARD_ERRORS * cell.std / math.sqrt(n)
        why = f"{STANDARD_ERRORS:g} standard errors ({bound:.{digits + 1}f}, {n} runs)"
    else:
        margin = MARGINS[family, cell.metric.name]
        bound = MARGINS_WITH_ONE_SEED * margin.around(published)
        why = f"{MARGINS_WITH_ONE_SEED:g} margins of {margin.text.replace('the Transformer', 'it')} (one run)"
    if gain <= bound or round(gain, digits) <= 0:
        return ""
    source = f"{line['model']} ({line['source']})"
    return f"{cell.mean:.{digits}f} is better than {published:.{digits}f} of {source} by more than {why}"


def _inexact(cell: Cell, lines: Sequence[Mapping[Any, Any]]) -> str:
    for line in lines:
        if EXACT.get(line["model"]) != cell.model or not cell.done:
            continue
        published = line["value"] * cell.metric.scale
        half_a_digit = 0.5 * 10.0 ** -_decimals(line["value"]) * cell.metric.scale
        if abs(cell.mean - published) > half_a_digit * 1.0001:
            return f"{cell.mean:.5f} is not the value of this rule on the official files, {published:g}"
    return ""


def _decimals(value: float) -> int:
    """Decimals that a published fraction was printed with; at least three."""
    return max(3, len(f"{value:.10f}".rstrip("0").partition(".")[2]))
