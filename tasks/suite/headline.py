"""The README's first screen, from the records: the answer to the paper's claim, and the numbers it rests on.

`make report` writes it between two comments of the README, and a test holds it to the records: never by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.suite.atomic import write_atomic
from tasks.suite.baselines import LARGE_GAP
from tasks.suite.captions import INDICATIVE, commit_of, hardware_of
from tasks.suite.frontpage import front_tables
from tasks.suite.layout import DATASETS
from tasks.suite.overviews import ABLATED, ABLATION, OWN_SETS, SUMMARY
from tasks.suite.rebuild import Rebuilt
from tasks.suite.report_gaps import gaps
from tasks.suite.report_verdicts import TITLES
from tasks.suite.rows import PAIR
from tasks.suite.summary import Summary, counted, few
from tasks.suite.table import Table
from tasks.suite.tables import MAIN_PROTOCOL

BEGIN = "<!-- measured: `make report` writes these lines from results/measured; what is changed here is lost -->"
END = "<!-- end of measured -->"
_ORDER = ("paper", "quick")  # the longest budgets first; smoke numbers mean nothing and are not shown
Entry = tuple[str, str, str, Summary]  # family, profile, sets, verdict


class HeadlineError(ValueError):
    """A README without the two comments that say where the block goes."""


def block(rebuilt: Rebuilt) -> str:
    """The lines between the comments, in markdown."""
    sets = {name: rebuilt.tables[name, MAIN_PROTOCOL] for name in _ORDER if (name, MAIN_PROTOCOL) in rebuilt.tables}
    entries, ablated = _entries(sets, SUMMARY), _entries(sets, ABLATION)
    fullest = sorted(sets, key=lambda profile: -sum(len(s.datasets) for _, name, _, s in entries if name == profile))
    numbers = {profile: front_tables(sets[profile]) for profile in fullest}
    parts = [
        _answer(entries),
        _table(entries),
        _how(entries),
        _ablation(ablated),
        _held(rebuilt),
        _facts(rebuilt.records, list(sets)),
        *(f"**Profile `{profile}`**\n\n{text}" for profile, text in numbers.items() if text),
    ]
    return "\n\n".join(part for part in parts if part)


def replaced(text: str, lines: str) -> str:
    """`text` with `lines` between the two comments.

    Raises:
        HeadlineError: unless each comment is there once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in old or BEGIN in after or END in after:
        raise HeadlineError(f"must hold the lines {BEGIN!r} and {END!r} once each, in this order; put them back")
    return f"{before}{BEGIN}\n{lines}\n{END}{after}"


def write_headline(rebuilt: Rebuilt, path: Path) -> None:
    """Put the block into the README at `path`, atomically.

    Raises:
        HeadlineError, WriteError: a file without the two comments, or that cannot be written; named.
    """
    try:
        text = replaced(path.read_text(encoding="utf-8"), block(rebuilt))
    except HeadlineError as error:
        raise HeadlineError(f"{path}: {error}") from error
    write_atomic(path, text.encode())


def _entries(sets: Mapping[str, Sequence[Table]], key: str) -> list[Entry]:
    return [
        (family, profile, kind, summary)
        for family in DATASETS
        for profile, tables in sets.items()
        for table in tables
        for known, kind, summary in table.summaries
        if table.key == key and known == family and summary is not None
    ]


def _answer(entries: Sequence[Entry]) -> str:
    said = []
    for family in DATASETS:
        own = [f"**{s.verdict}** under `{p}`" for f, p, kind, s in entries if f == family and kind == OWN_SETS]
        other = [
            f"**{s.verdict}** under `{p}` on parts, stand-ins or surrogates ({len(s.datasets)})"
            for f, p, kind, s in entries
            if f == family and kind != OWN_SETS
        ]
        found = [*(own or ["**not run** on the official sets"]), *other]
        said.append(f"{TITLES[family]}: {', '.join(found)}.")
    return "**Is Aaren comparable to the Transformer, as the paper says?** " + " ".join(said)


def _table(entries: Sequence[Entry]) -> str:
    lines = []
    for family, profile, kind, summary in entries:
        shown = summary.cells()
        rows = ", ".join(f"{count} {name}" for name, count in sorted(summary.verdicts.items()))
        lines.append(
            {
                "family, metric": f"{TITLES[family]}, {shown['metric']}",
                "profile": f"`{profile}`",
                "sets": kind,
                "datasets": shown["datasets"],
                "seeds": shown["seeds"],
                f"{PAIR[0]} - {PAIR[1]}, IQM": summary.iqm_text,
                "margin": f"± {summary.margin.text}",
                "P(better)": shown["P(better)"],
                "P(equivalent)": shown["P(equivalent)"],
                "P(worse)": shown["P(worse)"],
                "verdict": f"**{summary.verdict}**",
                "single datasets": rows,
            }
        )
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) if lines else ""


def _ablation(entries: Sequence[Entry]) -> str:
    """What the ablation says of each family; "" where it did not run."""
    said = []
    for family, profile, kind, summary in entries:
        sets = counted(len(summary.datasets), "set")
        sets += "" if kind == OWN_SETS else " that are parts, stand-ins or surrogates"
        said.append(
            f"{TITLES[family]}, {summary.metric.title}, `{profile}`, {sets}: **{summary.verdict}**"
            f" ({summary.iqm_text}, seeds: {summary.seeds_text})"
        )
    if not said:
        return ""
    return (
        f"**Does the learned query matter?** Aaren against `{ABLATED[1]}`, the same stack with every score equal"
        f" ({' - '.join(ABLATED)}, IQM, by the same rules): {'; '.join(said)}."
    )


def _how(entries: Sequence[Entry]) -> str:
    if not entries:
        return "No run of both models on any dataset yet: `make reproduce`, then `make report`."
    seeds = min(summary.seeds[0] for *_, summary in entries)
    return (
        "The verdict of a family needs a probability of 95 % over at least five datasets (Bayesian signed-rank test,"
        " the margin as region of practical equivalence) and two seeds; a single dataset's is two one-sided t tests"
        f" over the seeds. {'With one seed there is no verdict.' if seeds < 2 else few(seeds)}".rstrip()
    )


def _facts(records: Sequence[Mapping[str, Any]], profiles: Sequence[str]) -> str:
    done = [r for r in records if r["status"] == "done" and r["profile"] in profiles and r["protocol"] == MAIN_PROTOCOL]
    if not done:
        return ""
    said = []
    for profile in profiles:
        own = [record for record in done if record["profile"] == profile]
        hours = sum(record["wall_seconds"] or 0 for record in own) / 3600
        commits = ", ".join(sorted({commit_of(record) for record in own}))
        machines = ", ".join(sorted({hardware_of(record) for record in own}))
        words = INDICATIVE.get(profile, "").rstrip(".")
        said.append(
            f"`{profile}`{f' ({words[0].lower()}{words[1:]})' if words else ''}: {counted(len(own), 'run')},"
            f" {hours:.1f} hours of computing, {machines}, commit {commits}."
        )
    return (
        " ".join(said) + " Protocol `honest`: the model is selected on validation, the test part is scored once and"
        " whole. Raw records: [records.csv](results/measured/records.csv); every table, with captions, horizons and"
        " published numbers: [results/measured/tables](results/measured/tables); one page with curves and the"
        " provenance of each number: [report.html](results/measured/report.html) (download, open)."
    )


def _held(rebuilt: Rebuilt) -> str:
    """How our Transformer stands against the published one, in a sentence, with the tables that have every row."""
    main = {key: tables for key, tables in rebuilt.tables.items() if key[0] in _ORDER and key[1] == MAIN_PROTOCOL}
    found = gaps(main, rebuilt.references)
    if not found:
        return ""
    said = []
    for profile in (profile for profile in _ORDER if (profile, MAIN_PROTOCOL) in main):
        own = [gap for setting, gap in found if setting == f"{profile}, {MAIN_PROTOCOL}"]
        if own:
            behind = [gap.row.place for gap in own if gap.per_cent > LARGE_GAP]
            names = f" ({'; '.join(behind[:4])}{' and more' if len(behind) > 4 else ''})" if behind else ""
            said.append(
                f"under `{profile}` {len(behind)} of {len(own)} rows are more than {LARGE_GAP:g} % behind{names}:"
                f" [row by row](results/measured/tables/{profile}-{MAIN_PROTOCOL}/baselines.md)"
            )
    return f"The baseline itself: our Transformer against the published one, {', '.join(said)}."
