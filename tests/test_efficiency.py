"""The committed efficiency page is what the committed CSVs say, and the README quotes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EFFICIENCY = ROOT / "results" / "efficiency"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    before = set(sys.modules)
    from bench_tables import read_tables

    yield read_tables(EFFICIENCY)
    for name in set(sys.modules) - before:
        if name.startswith("bench_") or name == "machine":
            del sys.modules[name]


def test_the_page_is_what_the_csvs_say(tables):
    from bench_page import page

    assert (EFFICIENCY / "README.md").read_text() == page(tables)


def test_every_figure_on_the_page_is_there_and_small():
    page = (EFFICIENCY / "README.md").read_text()
    figures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(figures) == 4
    for name in figures:
        assert (EFFICIENCY / name).stat().st_size > 10_000
        assert (EFFICIENCY / name).with_suffix(".svg").exists()
    assert sum(path.stat().st_size for path in EFFICIENCY.iterdir()) < 1_500_000


def test_the_readme_quotes_the_page(tables):
    from bench_page import quotes

    readme = " ".join((ROOT / "README.md").read_text().split())
    assert len(quotes(tables)) == 3
    for sentence in quotes(tables):
        assert sentence in readme, f"scripts/bench.py figures prints the sentences for the README: {sentence}"
