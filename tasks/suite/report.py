"""The report: one self-contained HTML page of everything measured. Opens from a file; asks no network for anything.

The same records, references and figures give the same bytes. Everything that comes from a record is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.suite.anomalies import NOTES_NAME, read_notes
from tasks.suite.atomic import write_atomic
from tasks.suite.layout import FAMILY_OF
from tasks.suite.overviews import BASELINES
from tasks.suite.rebuild import Rebuilt, short
from tasks.suite.report_curves import curves
from tasks.suite.report_gaps import coverage_of, gaps, shortfalls
from tasks.suite.report_plots import legend
from tasks.suite.report_provenance import Provenance
from tasks.suite.report_tables import view
from tasks.suite.report_verdicts import SPAN, cards
from tasks.suite.tables import MAIN_PROTOCOL

REPORT_NAME = "report.html"
FIGURES = Path(__file__).resolve().parents[2] / "results" / "efficiency"
LARGEST_FIGURE = 300_000  # bytes; a larger one is named, not shown
_HERE = Path(__file__).parent
_PROFILES = ("paper", "quick", "smoke")
_LONG_NUMBER = re.compile(r"(\d+\.\d)\d+")  # a tenth of a point is finer than any screen
_PLAIN = ' "<>/:=;,.()-+*!?@[]{}|~$_'  # needs no escape in a data URI between single quotes
_METADATA = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)


class EmptyReportError(ValueError):
    """There is no record to report on; says where was looked and what makes some."""


class Figure(NamedTuple):
    """An efficiency figure: `source` is a data URI, "" where the file is too large to carry."""

    name: str
    source: Markup


def write_report(rebuilt: Rebuilt, folder: Path, out: Path, *, figures: Path = FIGURES) -> Path:
    """Write the page of `rebuilt` to `out`, atomically; returns `out`.

    Args:
        folder: of the records: its `notes.yaml` is quoted; named where there is nothing to report.
        figures: where the efficiency figures (SVG) are; absent ones are said to be.

    Raises:
        EmptyReportError: no usable record.
        NotesError, WriteError: a file that cannot be read or written, named.
    """
    write_atomic(out, page(rebuilt, folder, figures=figures).encode())
    return out


def page(rebuilt: Rebuilt, folder: Path, *, figures: Path = FIGURES) -> str:
    """The page's HTML. Raises as `write_report` does, short of writing."""
    if not rebuilt.records:
        raise EmptyReportError(
            f"{folder}: no usable record, so nothing to report; 'make reproduce' makes some under results/runs"
        )
    records = {record["run_id"]: record for record in rebuilt.records}
    sets = {key: rebuilt.tables[key] for key in sorted(rebuilt.tables, key=_rank)}
    provenance = Provenance(records)
    sections: list[dict[str, Any]] = []
    for (profile, protocol), tables in sets.items():
        drawn = curves(tables, records)
        sections.append(
            {
                "profile": profile,
                "protocol": protocol,
                "id": re.sub(r"[^A-Za-z0-9_-]+", "-", f"{profile}-{protocol}"),
                "cards": cards(tables),
                "tables": [
                    view(t, profile, protocol, provenance) for t in tables if t.key != BASELINES
                ],  # in a section of its own
                "drawn": drawn,
                "legend": legend([model for chart in drawn for model in chart.models]),
            }
        )
    covered = coverage_of(sets, rebuilt.coverage)
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    return _template().render(
        sections=sections,
        covered=covered,
        gaps=gaps(sets, rebuilt.references),
        shortfalls=shortfalls(
            sets, covered, [short(problem) for problem in rebuilt.problems], read_notes(folder / NOTES_NAME)
        ),
        figures=load_figures(figures),
        provenance=provenance.blob(),
        totals=_totals(rebuilt),
        span=SPAN,
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=_hash(f"\n{script}"),
    )


def load_figures(folder: Path) -> list[Figure]:
    """The SVG figures of a folder as images of their own: no script of theirs runs, no id of theirs clashes."""
    found = []
    for path in sorted(Path(folder).glob("*.svg")):
        text = re.sub(r"\s+", " ", _METADATA.sub("", path.read_text(encoding="utf-8"))).replace("> <", "><")
        data = quote(_LONG_NUMBER.sub(r"\1", text), safe=_PLAIN)
        found.append(Figure(path.stem, Markup("" if len(data) > LARGEST_FIGURE else f"data:image/svg+xml,{data}")))
    return found


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2")


def _hash(script: str) -> str:
    """What the page's policy lets run: this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _rank(key: tuple[str, str]) -> tuple[int, bool, str, str]:
    """The longest budgets first, the honest protocol before the others."""
    profile, protocol = key
    place = _PROFILES.index(profile) if profile in _PROFILES else len(_PROFILES)
    return place, protocol != MAIN_PROTOCOL, profile, protocol


def _totals(rebuilt: Rebuilt) -> dict[str, Any]:
    done = [record for record in rebuilt.records if record["status"] == "done"]
    used = {record["dataset"] for record in done if record["label"] == record["dataset"]} & set(FAMILY_OF)
    return {
        "done": len(done),
        "failed": sum(record["status"] == "failed" for record in rebuilt.records),
        "official": len(used),
        "datasets": len(FAMILY_OF),
        "hours": sum(record["wall_seconds"] or 0 for record in done) / 3600,
        "commits": _several({(record["git"]["commit"] or "unknown")[:10] for record in done}),
        "seeds": _several({str(record["seed"]) for record in done}),
    }


def _several(items: set[str], most: int = 6) -> str:
    ordered: Sequence[str] = sorted(items, key=lambda item: (len(item), item))
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")
