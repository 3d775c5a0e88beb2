"""The report: whole, escaped, the same twice; no number of another variant in an official cell; clear refusals."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.suite.coverage import Coverage
from tasks.suite.layout import FAMILY_OF
from tasks.suite.rebuild import rebuild
from tasks.suite.records import checksum, compose, write
from tasks.suite.report import EmptyReportError, load_figures, page, write_report
from tasks.suite.report_plots import Chart, Line, draw, ticks

ROOT = Path(__file__).resolve().parents[1]
READY = {name: Coverage(True, name) for name in FAMILY_OF}
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def _record(model="aaren", seed=0, *, dataset="Uber", label=None, variant="official", nll=1.5, **facts):
    cfg = {
        "task": {"family": "events", "protocol_version": 1},
        "dataset": {"name": dataset, "variant": "auto"},
        "model": {"name": model, "attention": model},
        "seed": seed,
        "horizon": None,
        "fold": None,
        "profile": "quick",
        "protocol": "honest",
    }
    measure = {"value": nll, "n": 100, "unit": "nats", "higher_is_better": False}
    record = compose(
        cfg,
        dataset=dataset,
        label=label or dataset,
        variant=variant,
        status="done",
        sha256={"events": "ab" * 32},
        source="data root",
        metrics={"test": {"nll": measure}},
        selection={"split": "val", "metric": "nll", "step": 3},
        **{"wall_seconds": 6.0, "finished": "2026-01-01T00:00:00+00:00", "command": "python scripts/train.py"} | facts,
    )
    record["git"] = {"commit": "c0ffee" * 6 + "c0ff", "dirty": False}
    record["hardware"] = {"cpu": "Some CPU", "cores": 2, "gpu": None}
    record["checksum"] = checksum(record)
    return record


def _history(first, last):
    return {
        "history": [{"step": 100, "val/nll": first}, {"step": 200, "val/nll": None}, {"step": 300, "val/nll": last}]
    }


@pytest.fixture
def runs(tmp_path):
    for seed in range(3):
        write(_record("aaren", seed, nll=1.5 + seed / 100, artefacts=_history(2.0, 1.5)), tmp_path / "runs")
        write(_record("transformer", seed, nll=1.51 + seed / 90, artefacts=_history(2.2, 1.6)), tmp_path / "runs")
        write(_record("aaren", seed, dataset="MIMIC", label="MIMIC-synthetic", variant="synthetic", nll=7.777),
              tmp_path / "runs")  # fmt: skip
    return tmp_path / "runs"


def _page(folder, tmp_path, **options):
    rebuilt = rebuild([folder], tmp_path / "tables", coverage=READY)
    return page(rebuilt, folder, figures=tmp_path / "none", **options)


class _Balance(HTMLParser):
    VOID = frozenset({"meta", "img", "path", "use", "circle", "rect", "br"})

    def __init__(self):
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_no_network(runs, tmp_path):
    text = _page(runs, tmp_path)
    parser = _Balance()
    parser.feed(text)
    assert not parser.open
    links = re.findall(r"""(?:src|href)=["']([^"']*)""", text)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\(", text)
    for name in FAMILY_OF:
        assert f'<th scope="row">{name}</th>' in text
    assert "Event forecasting: <b>undecided</b> (1 dataset)" in text
    assert "validation NLL" in text


def test_the_same_records_give_the_same_bytes(runs, tmp_path):
    first = _page(runs, tmp_path)
    assert first == _page(runs, tmp_path)
    rebuild([runs], tmp_path / "more", coverage=READY, gather=tmp_path / "gathered")
    again = page(rebuild([], tmp_path / "t", gathered=tmp_path / "gathered"), tmp_path, figures=tmp_path / "none")
    # Gathered records take no numbers that this machine alone has imported; nothing else differs.
    assert again.count('data-from="') == first.count('data-from="')


def test_a_number_says_which_runs_it_is_from(runs, tmp_path):
    text = _page(runs, tmp_path)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    number = int(re.search(r'data-from="(\d+)">(?:<b>)?1\.510 ± 0\.010 \(3\)', text)[1])
    place, model, items, members, values = data["cells"][number]
    assert (model, items, values) == ("aaren", "100", ["1.50000", "1.51000", "1.52000"])
    assert "Uber" in data["texts"][place]
    run = data["runs"][members[0]]
    assert run[0].startswith("events-Uber-aaren-s0-")
    assert data["texts"][run[4]] == "python scripts/train.py"
    assert data["texts"][run[5]].startswith("c0ffee")


def test_a_variants_number_is_never_in_the_official_cell(runs, tmp_path):
    text = _page(runs, tmp_path)
    row = re.search(r'<tr><th scope="row">MIMIC</th>(<td>events</td>.*?)</tr>', text)[1].split("<td")
    assert "another variant" in row[2]
    assert "7.777" not in row[3]
    assert "7.777" in row[4]
    assert "not the paper" in row[4]
    for found in re.finditer(r'<tr><th scope="row">MIMIC</th>(.*?)</tr>', text):
        assert "7.777" not in found[1].replace(row[4], "")


def test_hostile_text_stays_text(tmp_path):
    write(_record(command=HOSTILE, artefacts={"history": [{"step": HOSTILE, "val/nll": 1.0}]}), tmp_path / "runs")
    write(_record(seed=1, artefacts={"history": "no list", "calibration": {"levels": 3}}), tmp_path / "runs")
    bad = _record("transformer")
    bad["hardware"]["cpu"] = HOSTILE
    write(bad, tmp_path / "runs")
    text = _page(tmp_path / "runs", tmp_path)
    assert "<img src=x" not in text
    assert text.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert HOSTILE in data["texts"]
    assert html.escape("<img src=x onerror") in text


def test_charts_and_ticks():
    assert ticks(0.0, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    for low, high in ((0.2, 0.2000001), (-3.0, 7e5), (1e-9, 2e-9)):
        found = ticks(low, high)
        assert found[0] <= low + 1e-9 * abs(low)
        assert found[-1] >= high - 1e-9 * abs(high)
        assert len(found) <= 8
    assert draw(Chart("t", "x", "y", [Line("aaren", [1], [2.0])])) == ""
    flat = draw(Chart("<t>", "x", "y", [Line("aaren", [1, 2, 3], [2.0, None, 2.0])]))
    assert "&lt;t&gt;" in flat
    assert "nan" not in flat
    long = draw(Chart("t", "x", "y", [Line("mean", list(range(5000)), [float(n) for n in range(5000)])]))
    assert len(long) < 4000


def test_figures_are_carried_or_named(tmp_path):
    (tmp_path / "small.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><path d='M1.23456 2'/># ' &amp;</svg>")
    (tmp_path / "vast.svg").write_text("<svg>" + "x" * 400_000 + "</svg>")
    small, vast = load_figures(tmp_path)
    assert "M1.2 2" in small.source
    assert not set("#'&") & set(small.source)
    assert vast.source == ""


def test_nothing_to_report(tmp_path):
    with pytest.raises(EmptyReportError, match="no usable record"):
        _page(tmp_path / "absent", tmp_path)


def test_an_unwritable_place_keeps_the_old_page(runs, tmp_path):
    (tmp_path / "file").write_text("old")
    rebuilt = rebuild([runs], tmp_path / "tables", coverage=READY)
    with pytest.raises(OSError, match=r"cannot write .*file/report\.html"):
        write_report(rebuilt, runs, tmp_path / "file" / "report.html")
    assert (tmp_path / "file").read_text() == "old"


def _script(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "report.py", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_command_names_what_is_wrong(runs, tmp_path):
    empty = _script("--runs", tmp_path / "absent")
    assert (empty.returncode, "no record.json" in empty.stderr) == (2, True)
    damaged = next(runs.glob("*/record.json"))
    damaged.write_text("{")
    found = _script("--runs", runs)
    assert found.returncode == 1, found.stderr
    assert str(damaged) in found.stderr
    text = (runs / "report.html").read_text()
    assert f"Left out, unusable: {damaged.parent.name}/record.json" in text
    assert str(tmp_path) not in text


def test_five_thousand_records_in_time(tmp_path):
    some = [
        _record(model, seed, dataset="known/set", variant="synthetic", artefacts=_history(2.0, 1.0))
        for model in ("aaren", "transformer")
        for seed in range(10)
    ]
    records = [
        record | {"run_id": f"{record['run_id']}-{number}", "dataset": f"known/{number}", "label": f"known/{number}"}
        for record in some
        for number in range(250)
    ]
    from tasks.suite.rebuild import Rebuilt
    from tasks.suite.references import load_references
    from tasks.suite.tables import build

    references = load_references()
    start = time.process_time()
    tables = build(records, profile="quick", protocol="honest", coverage=READY, references=references)
    rebuilt = Rebuilt({("quick", "honest"): tables}, [], [], records, READY, references)
    text = page(rebuilt, tmp_path, figures=tmp_path)
    assert time.process_time() - start < 15
    assert text.count('class="chart"') == 250
