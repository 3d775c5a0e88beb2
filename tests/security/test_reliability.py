"""The page of promises: written from what the runs left, naming tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def reliability(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import reliability

    return reliability


def test_the_page_is_what_the_script_writes(reliability):
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page()


def test_every_test_it_names_exists(reliability):
    assert reliability.missing_tests() == []


def test_it_has_25_points_each_shown_or_said_why_not(reliability):
    page = reliability.page()
    points = re.findall(r"^- \[(x| )\] (\d+)\. (.*)$", page, re.M)
    assert [int(number) for _, number, _ in points] == list(range(1, 26))
    for mark, _, text in points:
        assert mark == "x" or "Not shown:" in text or "not yet run" in text


def test_links_lead_to_files(reliability):
    for target in set(re.findall(r"\]\(([^)#]+)\)", reliability.page())):
        assert (reliability.PAGE.parent / target).exists(), target


def test_a_broken_or_missing_run_ticks_nothing(reliability):
    held = {"finished": "now", "trials": 3, "passed": 3}
    point = {"tests": ["a"], "parts": ["kills"]}
    assert reliability._ticked(point, {"kills": held})
    assert not reliability._ticked(point, {"kills": held | {"passed": 2}})
    assert not reliability._ticked(point, {"kills": held | {"finished": None}})
    assert not reliability._ticked(point, {})
    assert not reliability._ticked({"tests": []}, {})
