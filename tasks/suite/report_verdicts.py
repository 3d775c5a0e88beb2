"""The page's first screen: whether Aaren keeps up in each family, by how much on each dataset, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tasks.suite.layout import FAMILY_OF
from tasks.suite.margins import MAIN_METRIC, MARGINS
from tasks.suite.overviews import OTHER_SETS, OWN_SETS, SUMMARY
from tasks.suite.report_plots import Mark, lane
from tasks.suite.rows import PAIR, Row
from tasks.suite.statistics import UNDECIDED, difference, pair
from tasks.suite.summary import Summary, counted, few, verdict
from tasks.suite.table import FamilySummary, Table

SPAN = 4.0  # margins to each side of a forest plot
TITLES = {
    "rl": "Reinforcement learning",
    "events": "Event forecasting",
    "forecasting": "Time series forecasting",
    "classification": "Time series classification",
}


class Card(NamedTuple):
    """One family of one profile and protocol: its verdict in a word and in sentences, and a lane a dataset."""

    title: str
    kind: str
    verdict: str
    why: str
    text: str
    margin: str
    lanes: list[dict[str, Any]]


def cards(tables: Sequence[Table]) -> list[Card]:
    """A card a family; the sets that are no official ones have cards of their own."""
    summaries = next((table.summaries for table in tables if table.key == SUMMARY), ())
    return [_card(summary, _rows(tables, summary[0], summary[1], summary[2])) for summary in summaries]


def _card(entry: FamilySummary, rows: Sequence[Row]) -> Card:
    family, sets, summary = entry
    title = TITLES.get(family, family)
    kind = "" if sets == OWN_SETS else "parts, samples and surrogates: not the paper's sets"
    if summary is None:
        return Card(title, kind, "not run", "", _missing(family), "", [])
    word, _, why = summary.verdict.partition(" (")
    lanes = []
    for row in rows:
        mark = _mark(row)
        if mark is not None:
            lanes.append({"mark": mark, **lane(mark, SPAN)})
    return Card(title, kind, word, why.rstrip(")") or _why(summary), _text(summary), summary.rule(), lanes)


def _missing(family: str) -> str:
    count = sum(known == family for known in FAMILY_OF.values())
    return f"No run of both models on any of the {count} official sets; the coverage below says what would change that."


def _why(summary: Summary) -> str:
    return "the datasets do not agree well enough for 95 %" if summary.verdict == UNDECIDED else ""


def _text(summary: Summary) -> str:
    posterior = summary.posterior
    rows = ", ".join(f"{count} {name}" for name, count in sorted(summary.verdicts.items()))
    seeds = "1 seed" if summary.seeds == (1, 1) else f"{summary.seeds_text} seeds"
    return (
        f"{summary.metric.title} on {counted(len(summary.datasets), 'dataset')}, {seeds} each. {PAIR[0]} - {PAIR[1]},"
        f" interquartile mean: {summary.iqm_text}. P(better) {posterior.better:.2f},"
        f" P(equivalent) {posterior.equivalent:.2f}, P(worse) {posterior.worse:.2f}. Single datasets: {rows}."
        f" {few(summary.seeds[0])}".rstrip()
    )


def _rows(tables: Sequence[Table], family: str, sets: str, summary: Summary | None) -> list[Row]:
    """The rows that a family's verdict is over: its main metric, at the horizon it is judged at."""
    if summary is None:
        return []
    found: dict[str, Row] = {}
    for table in tables:
        if table.key.startswith("extras_") != (sets == OTHER_SETS):
            continue
        for row in table.rows:
            judged = row.family == family and row.metric is not None and row.metric.name == MAIN_METRIC[family]
            if judged and row.horizon == summary.horizon and row.dataset in summary.datasets:
                found.setdefault(row.dataset, row)
    return list(found.values())


def _difference(row: Row) -> str:
    text, _, doubt = difference(*(row.cells.get(name) for name in PAIR)).partition(f"; {UNDECIDED} ")
    return f"{text} {doubt}".strip()


def _mark(row: Row) -> Mark | None:
    paired = pair(*(row.cells.get(name) for name in PAIR))
    if paired is None or row.metric is None:
        return None
    size = MARGINS[row.family, row.metric.name].around(paired.baseline)
    if size <= 0:
        return None
    sign = (1.0 if paired.higher_is_better else -1.0) / size
    low = high = None
    if len(paired.differences) > 1:
        low, high = sorted(sign * bound for bound in paired.interval())
    return Mark(
        row.dataset,
        sign * paired.mean,
        low,
        high,
        _difference(row),
        verdict(row),
    )
