"""The committed tables are what the committed records say, byte for byte, and so is the README's first screen."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tasks.suite.headline import block, replaced
from tasks.suite.rebuild import rebuild
from tasks.suite.report import REPORT_NAME, page

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "results" / "measured"
README = (ROOT / "README.md").read_text()


def test_tables_rebuild_to_the_same_bytes(tmp_path):
    rebuilt = rebuild([], tmp_path, gathered=MEASURED)
    assert not rebuilt.problems
    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in rebuilt.files}
    committed = {p.relative_to(MEASURED / "tables"): p.read_bytes() for p in (MEASURED / "tables").rglob("*.*")}
    assert replaced(README, block(rebuilt)) == README, "make report writes the README's first numbers"
    assert page(rebuilt, MEASURED) == (MEASURED / REPORT_NAME).read_text(), "make report rebuilds tables and page"
    assert (MEASURED / REPORT_NAME).stat().st_size < 2_000_000
    assert fresh.keys() == committed.keys()
    for name, content in fresh.items():
        assert content == committed[name], name


def test_records_come_from_a_clean_commit():
    records = pd.read_csv(MEASURED / "records.csv", dtype=str, keep_default_na=False)
    assert len(records) >= 100
    absolute = records.astype(str).apply(lambda column: column.str.contains(r"(?:^|[\s\"'=])/[a-z]+/"))
    assert not absolute.to_numpy().any(), "a published record tells no path of a machine"
    for text in records["git"]:
        assert json.loads(text)["dirty"] is False
