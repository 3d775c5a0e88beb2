"""Our Transformer beside the published one, row by row: a comparison is only as good as its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from tasks.suite.anomalies import NOT_COMPARABLE, baseline
from tasks.suite.captions import INDICATIVE
from tasks.suite.rows import PAIR, Row

LARGE_GAP = 10.0  # per cent
_Lines = Mapping[Any, Any]


class Gap(NamedTuple):
    """One row: `per_cent` is positive where ours is worse; `source` and `protocol` are the published number's own."""

    row: Row
    ours: str
    published: str
    model: str
    source: str
    protocol: str
    per_cent: float
    sentence: str


def baselines_of(profile: str, rows: Sequence[Row], references: pd.DataFrame) -> list[Gap]:
    """A gap for every official row where our Transformer has a number and a published one of the same kind exists."""
    known: dict[tuple[str, str, str, str], list[_Lines]] = {}
    for line in references.to_dict("records"):
        known.setdefault((line["family"], line["dataset"], line["horizon"], line["metric"]), []).append(line)
    found: dict[str, Gap] = {}
    for row in rows:
        cell = row.cells.get(PAIR[1])
        if row.metric is None or cell is None or not cell.done:
            continue
        if (row.family, row.metric.name) in NOT_COMPARABLE:
            continue
        horizon = "" if row.horizon is None else str(row.horizon)
        line = baseline(row.family, PAIR[1], known.get((row.family, row.dataset, horizon, row.metric.name), []))
        if line is None or line["value"] == 0:
            continue
        published = line["value"] * row.metric.scale
        behind = published - cell.mean if cell.higher_is_better else cell.mean - published
        per_cent = 100 * behind / abs(published)
        text = _sentence(profile, row, published, per_cent, line) if abs(per_cent) > LARGE_GAP else ""
        shown = f"{published:.{row.metric.digits}f}"
        found.setdefault(
            row.place, Gap(row, cell.text(), shown, line["model"], line["source"], line["protocol"], per_cent, text)
        )
    return list(found.values())


def _sentence(profile: str, row: Row, published: float, per_cent: float, line: _Lines) -> str:
    own = INDICATIVE.get(profile, "").rstrip(".") or "Full budget"
    theirs = f"published under: {line['protocol']}" + (f" ({line['note']})" if line["note"] else "")
    said = f"{abs(per_cent):.0f} % {'worse' if per_cent > 0 else 'better'}. Ours: {own}; {theirs}."
    rules = [cell for cell in row.cells.values() if not cell.trained and cell.done]
    ahead = [rule for rule in rules if (rule.mean > published if rule.higher_is_better else rule.mean < published)]
    if ahead and row.metric is not None:
        names = ", ".join(f"{rule.model} ({rule.mean:.{row.metric.digits}f})" for rule in ahead)
        said += f" Even a rule without training is ahead of the published number: {names}."
    return said
