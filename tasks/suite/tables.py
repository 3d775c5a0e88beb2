"""Tables from records: the paper's four, the horizon appendix and the extras, for one profile and protocol at a time.

`build` makes them, `write_tables` puts each at `<folder>/<profile>-<protocol>/<key>.{md,tex,csv,html}`. Needs no torch,
and the same records give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.suite.atomic import write_atomic
from tasks.suite.baselines import baselines_of
from tasks.suite.captions import caption, footnotes
from tasks.suite.coverage import Coverage
from tasks.suite.layout import FAMILY_OF, LAYOUTS, MAIN_HORIZON
from tasks.suite.overviews import (
    ABLATED,
    ABLATION_TITLE,
    BASELINES_TITLE,
    OTHER_SETS,
    OWN_SETS,
    SUMMARY_TITLE,
    ablation_table,
    baseline_table,
    summary_table,
)
from tasks.suite.published import published
from tasks.suite.rows import PAIR, Row, extra_rows, in_main_table, main_rows
from tasks.suite.statistics import difference, pair
from tasks.suite.summary import Summary, rule, summarise, verdict
from tasks.suite.table import FamilySummary, Table

Record = Mapping[str, Any]
OURS, PUBLISHED = "measured here: mean ± std (seeds)", "published, other set-ups"
MAIN_PROTOCOL = "honest"
MODEL_ORDER = (*PAIR, "aaren_queries", "mean", "none")
FAMILY_TITLES = {"rl": "Offline reinforcement learning"}
MAIN_KEYS = frozenset(layout.key for layout in LAYOUTS)
EXTENSIONS = ("md", "tex", "csv", "html")


class MixedRecordsError(ValueError):
    """Records of several profiles or protocols were asked into one table."""


def sets_of(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The (profile, protocol) pairs in the records; each has tables of its own."""
    return sorted({(record["profile"], record["protocol"]) for record in records})


def build(
    records: Sequence[Record],
    *,
    profile: str,
    protocol: str,
    coverage: Mapping[str, Coverage],
    references: pd.DataFrame,
    prefer: Collection[str] = (),
    problems: Sequence[str] = (),
    command: str | None = None,
) -> list[Table]:
    """Every table of one profile and protocol.

    Args:
        records: of this profile and protocol only.
        coverage: dataset -> whether it is ready, and how to get it; {} reads it off the unavailable records.
        references: from `references.load_references`.
        prefer: run ids or config hashes (of the current plan) that win where a row has runs of several configurations.
        problems: record files that could not be used, named under each table.
        command: what reproduces the tables; None derives it from the profile and the number of seeds.

    Raises:
        MixedRecordsError: if a record is of another profile or protocol.
    """
    strangers = [r["run_id"] for r in records if (r["profile"], r["protocol"]) != (profile, protocol)]
    if strangers:
        raise MixedRecordsError(
            f"a table of profile {profile}, protocol {protocol} was given {len(strangers)} records of others"
            f" ({strangers[0]} ...); build one set of tables for each of them"
        )
    done = [record for record in records if record["status"] == "done"]
    command = command or _command(profile, protocol, records)
    tables: list[Table] = []
    families: list[FamilySummary] = []
    ablated: list[FamilySummary] = []
    for layout in LAYOUTS:
        own = [record for record in records if record["family"] == layout.family]
        if protocol != MAIN_PROTOCOL and not own:
            continue
        rows = main_rows(layout, own, coverage, prefer)
        used = [r for r in done if r["family"] == layout.family and in_main_table(r)]
        used = [r for r in used if not layout.horizons or r["horizon"] in layout.horizons]
        text = caption(layout.title, profile, protocol, used, command)
        summary = summarise(layout.family, rows, layout.judged_at)
        if summary is not None or not layout.average:
            families.append((layout.family, OWN_SETS, summary))
        if (without := summarise(layout.family, rows, layout.judged_at, ABLATED)) is not None:
            ablated.append((layout.family, OWN_SETS, without))
        tables.append(_table(layout.key, layout.title, text, layout.family, rows, references, problems, summary))
    for family in sorted({record["family"] for record in records}):
        rows = extra_rows(family, records, prefer)
        if rows:
            title = f"{FAMILY_TITLES.get(family, family.capitalize())}: other variants, and sets outside the 38"
            used = [r for r in done if r["family"] == family and not in_main_table(r)]
            text = caption(title, profile, protocol, used, command)
            horizon = MAIN_HORIZON if any(row.horizon == MAIN_HORIZON for row in rows) else None
            summary = summarise(family, rows, horizon)
            families += [(family, OTHER_SETS, summary)] if summary else []
            without = summarise(family, rows, horizon, ABLATED)
            ablated += [(family, OTHER_SETS, without)] if without else []
            tables.append(_table(f"extras_{family}", title, text, family, rows, references, problems, summary))
    used = [record for record in done if FAMILY_OF.get(record["dataset"]) == record["family"]]
    text = caption(SUMMARY_TITLE, profile, protocol, used, command)
    held = baselines_of(profile, [row for table in tables if table.key in MAIN_KEYS for row in table.rows], references)
    if held:
        beside = [record for record in used if record["family"] in {gap.row.family for gap in held}]
        tables.append(baseline_table(caption(BASELINES_TITLE, profile, protocol, beside, command), held))
    if ablated:
        tables.append(ablation_table(caption(ABLATION_TITLE, profile, protocol, used, command), ablated))
    return [*tables, summary_table(text, families)]


def write_tables(tables: Sequence[Table], folder: Path, profile: str, protocol: str) -> list[Path]:
    """Write the set's tables atomically and delete those of its folder that no longer exist; returns the files."""
    from tasks.suite.render import render

    target = Path(folder) / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{profile}-{protocol}")
    written = []
    for table in tables:
        for extension in EXTENSIONS:
            path = target / f"{table.key}.{extension}"
            write_atomic(path, render(table, extension).encode(), durable=False)  # rebuilt from records
            written.append(path)
    for path in target.glob("*.*"):
        if path not in written and path.suffix[1:] in EXTENSIONS:
            path.unlink()
    return written


def _table(
    key: str,
    title: str,
    text: str,
    family: str,
    rows: Sequence[Row],
    references: pd.DataFrame,
    problems: Sequence[str],
    summary: Summary | None,
) -> Table:
    extern = published(family, rows, references, paper=key in MAIN_KEYS)
    models = _models(rows)
    records: list[dict[tuple[str, str], str]] = []
    bold: list[dict[tuple[str, str], bool]] = []
    for row, numbers in zip(rows, extern.rows, strict=True):
        ahead, best = {cell.model for cell in row.rules_ahead()}, row.best_trained()
        line = {("", "dataset"): row.dataset}
        if any(r.horizon is not None for r in rows):
            line["", "horizon"] = "" if row.horizon is None else str(row.horizon)
        line["", "metric"] = row.metric.title if row.metric else ""
        line["", "test items"] = row.items
        if any(r.best for r in rows):
            line["", "best reachable"] = row.best
        for model in models:
            cell = row.cells.get(model)
            absent = "not run" if row.cells else ""
            line[OURS, model] = cell.text() + (" †" if model in ahead else "") if cell else absent
        line[OURS, f"{PAIR[0]} - {PAIR[1]}, 95 % interval"] = difference(*(row.cells.get(m) for m in PAIR))
        line[OURS, "verdict"] = verdict(row)
        for name in extern.columns:
            line[PUBLISHED, name] = numbers.get(name, "")
        line["", "note"] = row.note
        records.append(line)
        bold.append({column: column[0] == OURS and column[1] in best for column in line})
    shown = pd.DataFrame(records)
    shown.columns = pd.MultiIndex.from_tuples(list(shown.columns))
    marks = pd.DataFrame(bold)
    marks.columns = shown.columns
    if not (shown["", "note"] != "").any():
        shown, marks = shown.drop(columns=[("", "note")]), marks.drop(columns=[("", "note")])
    said = [text for text in (summary.sentence() if summary else "", rule(rows)) if text]
    notes = (*said, *footnotes(rows), *extern.notes, *(f"Left out, unusable: {text}." for text in problems))
    return Table(key, title, text, notes, shown, marks, _tidy(key, rows), rows)


def _models(rows: Sequence[Row]) -> list[str]:
    """Columns: the pair, the ablations, other trained models, then the trivial rules, each group by name."""
    trained = {cell.model: cell.trained for row in rows for cell in row.cells.values()}
    rank = {model: position for position, model in enumerate(MODEL_ORDER)}
    names = set(trained) | set(PAIR)
    return sorted(names, key=lambda m: (not trained.get(m, True), rank.get(m, len(rank)), m))


def _tidy(key: str, rows: Sequence[Row]) -> pd.DataFrame:
    """One line a cell; Aaren's also holds its difference to the Transformer."""
    columns = (
        "table", "dataset", "horizon", "metric", "model", "mean", "std", "seeds", "failed", "test_items",
        "higher_is_better", "trained", "same_options", "difference", "low", "high", "pairs", "verdict", "note",
    )  # fmt: skip
    lines: list[tuple[Any, ...]] = []
    nothing = float("nan")
    none = (nothing, nothing, nothing, "", "")
    for row in rows:
        place = (key, row.dataset, "" if row.horizon is None else row.horizon, row.metric.title if row.metric else "")
        paired = pair(*(row.cells.get(name) for name in PAIR))
        for cell in row.cells.values():
            size = "/".join(str(n) for n in cell.n)
            numbers = (cell.mean, cell.std, cell.done, cell.failed, size)
            kind = (cell.higher_is_better, cell.trained, cell.same_options)
            held = none
            if paired is not None and cell.model == PAIR[0]:
                held = (paired.mean, *paired.interval(), len(paired.differences), verdict(row))
            lines.append((*place, cell.model, *numbers, *kind, *held, row.note))
        if not row.cells:
            lines.append((*place, "", nothing, nothing, 0, 0, "", "", "", "", *none, row.note))
    return pd.DataFrame(lines, columns=list(columns))


def _command(profile: str, protocol: str, records: Sequence[Record]) -> str:
    seeds = len({record["seed"] for record in records}) or 1
    honest = "" if protocol == MAIN_PROTOCOL else f" PROTOCOL={protocol}"
    return f"make reproduce PROFILE={profile} SEEDS={seeds}{honest}"
