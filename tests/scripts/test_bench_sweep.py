"""What a second worker brings: each sweep is measured once, and a run that was stopped goes on with the next."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("bench_sweep")


@pytest.fixture
def sweeps(bench, monkeypatch):
    """The worker counts that were measured; a second worker takes 0.6 of the time."""
    measured = []

    def sweep(*arguments):
        workers = int(arguments[-1].rpartition("=")[2])
        measured.append(workers)
        return bench.Swept(100.0 if workers == 1 else 60.0, 110.0, [10.0, 20.0, 60.0])

    monkeypatch.setattr(bench, "sweep", sweep)
    return measured


def test_a_second_worker_is_held_against_the_first(bench, sweeps, tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(bench.app, ["speedup", "--out", str(tmp_path), *arguments], catch_exceptions=False)
        assert done.exit_code == 0
        with (tmp_path / "sweep-speedup.csv").open() as file:
            return list(csv.DictReader(file))

    one, two = run()
    assert (one["workers"], one["jobs"], one["median_job_s"], one["longest_job_s"]) == ("1", "3", "20", "60")
    assert (two["workers"], two["speed_up"], two["bar"], two["holds"]) == ("2", "1.6667", "1.6", "True")
    assert (run(), sweeps) == ([one, two], [1, 2])

    path = tmp_path / "sweep-speedup.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))  # stopped in the second sweep
    assert (run()[0], sweeps) == (one, [1, 2, 2])

    run("--dataset", "JapaneseVowels")
    run("--dataset", "JapaneseVowels", "--again")
    assert sweeps == [1, 2, 2, 1, 2, 1, 2]
