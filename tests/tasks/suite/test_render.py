"""The four formats: well-formed whatever the names hold."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pandas as pd
import pytest

from tasks.suite.coverage import Coverage
from tasks.suite.layout import FAMILY_OF
from tasks.suite.references import load_references
from tasks.suite.render import NOTE, escape_latex, flat_names, render
from tasks.suite.tables import build
from tasks.suite.terminal import print_tables

HOSTILE = r"a_b & 50% $x^2$ #1 {y} ~ \end{tabular} <script>alert('|')</script> *z* [k] `q` – é ±"


@pytest.fixture
def tables(make_record, varied_records):
    known = {name: Coverage(True, name) for name in FAMILY_OF}
    known["ECL"] = Coverage(False, "", HOSTILE, HOSTILE)
    hostile = make_record(model=HOSTILE, values={"mse": 0.1, "mae": 0.1})
    failed = make_record(dataset="Weather", status="failed", reason=HOSTILE + "\nsecond line")
    built = build(
        [*varied_records, hostile, failed],
        profile="quick",
        protocol="honest",
        coverage=known,
        references=load_references(),
    )
    return {table.key: table for table in built}


def test_latex_is_balanced_and_escaped(tables):
    for table in tables.values():
        text = render(table, "tex")
        assert text.isascii()
        opened = re.findall(r"(?<!\\)\\begin\{(\w+)\}", text)
        closed = re.findall(r"(?<!\\)\\end\{(\w+)\}", text)
        assert sorted(opened) == sorted(closed)
        assert set(opened) in ({"table", "tabular"}, {"longtable"})
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert rule in text
        bare = re.sub(r"\\[\\&%$#_{}]", "", text)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        body = bare[bare.index(r"\begin{") :]
        assert not re.search(r"[#_^~%]", re.sub(r"\\label\{[^}]*\}", "", body))
        assert "<script>" not in text


def test_latex_rows_have_as_many_cells_as_columns(tables):
    for table in tables.values():
        text = render(table, "tex")
        body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
        body = body[body.rindex(r"\endlastfoot") :] if r"\endlastfoot" in body else body
        lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len(lines) >= len(table.shown)
        for line in lines:
            assert len(re.findall(r"(?<!\\)&", line)) == table.shown.shape[1] - 1 - (NOTE in table.shown.columns)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here: tables are checked by structure alone")
def test_latex_compiles(tables, tmp_path):
    body = "\\clearpage\n".join(render(table, "tex") for table in tables.values())
    packages = "\\usepackage{booktabs,longtable,graphicx}\\usepackage[landscape,margin=1cm]{geometry}"
    (tmp_path / "all.tex").write_text(f"\\documentclass{{article}}{packages}\\begin{{document}}{body}\\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(wide, default=0) < 120, "a table runs off the page"


def test_latex_escapes():
    assert escape_latex(r"\&%$#_{}~^") == (r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}")
    assert escape_latex("0.4 ± 0.1 †") == r"0.4 $\pm$ 0.1 $\dagger$"
    assert escape_latex("数") == "?"
    assert escape_latex("[1]") == "{[}1{]}"  # an opening bracket after \\ would be read as its argument


def test_latex_sets_the_best_in_bold(tables):
    text = render(tables["table4_classification"], "tex")
    assert len(re.findall(r"\\bfseries", text)) == 1
    assert re.search(r"JapaneseVowels.*\\bfseries 97\.9 \$\\pm\$ 0\.1 \(3\)", text)


def test_markdown_rows_have_as_many_cells_as_columns(tables):
    for table in tables.values():
        text = render(table, "md")
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) == len(table.shown) + 2
        for row in rows:
            assert len(re.findall(r"(?<!\\)\|", row)) == table.shown.shape[1] + 1
        assert "<script>" not in text
    assert "**97.9 ± 0.1 (3)**" in render(tables["table4_classification"], "md")
    assert "published: Transformer [2]" in render(tables["table4_classification"], "md")


class _Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_balanced_escaped_and_self_contained(tables):
    for table in tables.values():
        text = render(table, "html")
        parser = _Balance()
        parser.feed(text)
        assert parser.open == []
        assert not {"script", "link", "img"} & {tag for tag, _ in parser.seen}
        assert not any(key in ("src", "href") for _, attributes in parser.seen for key in attributes)
        assert "&lt;script&gt;" in text or "<script" not in text
        parsed = pd.read_html(io.StringIO(text)) if _has_lxml() else []
        assert all(len(frame) == len(table.shown) for frame in parsed)


def _has_lxml() -> bool:
    import importlib.util

    return importlib.util.find_spec("lxml") is not None


def test_csv_reads_back(tables):
    for table in tables.values():
        frame = pd.read_csv(io.StringIO(render(table, "csv")), keep_default_na=False)
        assert len(frame) == len(table.tidy)
        assert list(frame.columns) == list(table.tidy.columns)


def test_terminal_shows_every_row(tables):
    from rich.console import Console

    console = Console(width=240, file=io.StringIO())
    print_tables({("quick", "honest"): list(tables.values())}, console)
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for name in FAMILY_OF:
        assert name[:8] in shown
    assert "profile quick, protocol honest" in shown


def test_flat_names_say_published(tables):
    names = flat_names(tables["table4_classification"])
    assert names.count("aaren") == 1
    assert "published: Rocket [2]" in names
