"""The tables about the tables: the verdict of each family, the ablation, our Transformer beside the published one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tasks.suite.baselines import LARGE_GAP, Gap
from tasks.suite.rows import PAIR
from tasks.suite.summary import SUMMARY_NOTE, Models, summary_columns
from tasks.suite.table import FamilySummary, Table, plain

OWN_SETS, OTHER_SETS = "the paper's", "other variants of them"
SUMMARY, SUMMARY_TITLE = "summary", "Aaren against the Transformer, by family"
ABLATION, ABLATION_TITLE = "ablation", "Does the learned query matter? Aaren against uniform scores, by family"
ABLATED: Models = ("aaren", "mean")
BASELINES, BASELINES_TITLE = "baselines", "Our Transformer beside the published one"


def ablation_table(text: str, families: Sequence[FamilySummary]) -> Table:
    """The same for Aaren against `mean`: the same stack with every score equal."""
    return summary_table(text, families, ABLATION, ABLATION_TITLE, ABLATED)


def summary_table(
    text: str,
    families: Sequence[FamilySummary],
    key: str = SUMMARY,
    title: str = SUMMARY_TITLE,
    models: Models = PAIR,
) -> Table:
    """One line a family, under the caption `text`; a family that has not run says so."""
    lines: list[dict[str, str]] = []
    tidy: list[dict[str, Any]] = []
    for family, sets, summary in families:
        line = {"family": family, "sets": sets} | dict.fromkeys(summary_columns(models), "")
        line["verdict"] = "not run" if summary is None else summary.verdict
        tidy.append(line | (summary.numbers() if summary else {}))
        lines.append(line | (summary.cells() if summary else {}))
    shown, bold = plain(lines)
    rules = dict.fromkeys(summary.rule() for _, _, summary in families if summary is not None)
    notes = (*rules, SUMMARY_NOTE)
    return Table(key, title, text, notes, shown, bold, pd.DataFrame(tidy), summaries=tuple(families))


def baseline_table(text: str, gaps: Sequence[Gap]) -> Table:
    """One line a row that has a published baseline; a gap over 10 % has its sentence in the note."""
    lines: list[dict[str, str]] = []
    tidy: list[dict[str, Any]] = []
    sources = {source: number for number, source in enumerate(dict.fromkeys(map(_source, gaps)), start=1)}
    for gap in gaps:
        row = gap.row
        place = {
            "dataset": row.dataset,
            "horizon": "" if row.horizon is None else str(row.horizon),
            "metric": row.metric.title if row.metric else "",
        }
        model = f"{gap.model} [{sources[_source(gap)]}]"
        said = {"our Transformer": gap.ours, "published": gap.published, "model": model}
        lines.append({**place, **said, "gap, %": f"{gap.per_cent:+.1f}", "note": gap.sentence})
        tidy.append({**place, **said, "model": gap.model, "gap_per_cent": gap.per_cent, "note": gap.sentence})
    shown, bold = plain(lines)
    large = sum(abs(gap.per_cent) > LARGE_GAP for gap in gaps)
    notes = (
        f"Positive: ours is worse. {large} of {len(gaps)} gaps are over {LARGE_GAP:g} %, with a sentence each.",
        *(f"[{number}] {source}." for source, number in sources.items()),
    )
    return Table(BASELINES, BASELINES_TITLE, text, notes, shown, bold, pd.DataFrame(tidy))


def _source(gap: Gap) -> str:
    return f"{gap.source} ({gap.protocol})"
