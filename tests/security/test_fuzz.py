"""A thousand damaged files for every reader, by the harness that `make faults` gives a hundred thousand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "fuzz.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=280)


def test_every_reader_survives_a_thousand_damaged_files(tmp_path):
    done = _run("--mutations", "1000", "--out", str(tmp_path), "--state", str(tmp_path / "state"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["reader"]: row for row in csv.DictReader((tmp_path / "fuzz.csv").read_text().splitlines())}
    formats = {"parquet", "csv", "ts", "arff", "npz", "hdf5", "events", "records", "checkpoints", "archives", "hashed"}
    assert rows.keys() == formats
    for name, row in rows.items():
        assert int(row["cases"]) == 1000
        assert int(row["refused"]) + int(row["true"]) + int(row["untold"]) == 1000
        assert int(row["refused"]) > 500, name  # damage that matters was done
        assert name == "hashed" or int(row["true"]) > 5, name  # and damage that does not
        assert int(row["untold"]) <= (30 if name in ("parquet", "hdf5") else 0)
    assert json.loads((tmp_path / "fuzz.json").read_text())["figures"]["failures"] == 0


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import fuzz

    return fuzz


def test_a_reader_that_lies_raises_or_dies_is_found_out(fuzz, monkeypatch, tmp_path):
    """The harness itself: a wrong answer, a foreign error, and a child that crashes at one case."""
    import fuzz_batches
    from fuzz_mutate import Reader, Seed

    def read(content: bytes) -> int:
        if len(content) % 3 == 0:
            raise ValueError
        if len(content) % 3 == 1:
            raise KeyError
        return 1

    seed = Seed("any", b"0123456789", read, lambda content, found: found is None or content == b"0123456789")
    outcomes = {fuzz.read_case(Reader("toy", (seed,), (ValueError,)), case) for case in range(300)}
    assert {"refused", "escaped: KeyError", "wrong content"} <= outcomes

    deaths = {(0, 50): ("toy", 7, "crash of the process (-11)"), (8, 50): ("toy", 30, "hang")}

    def spawn(names: list[str], first: int, last: int) -> tuple:
        died = deaths.get((first, last))
        counted = {"cases": last - first, "outcomes": {"refused": last - first}, "failures": []}
        return ({} if died else {"toy": counted | {"growth_bytes": 0, "cpu_seconds": 0.0}}), died

    monkeypatch.setattr(fuzz_batches, "_spawn", spawn)
    total = fuzz_batches.read_batch(["toy"], 0, 50)["toy"]
    assert total["cases"] == 50
    assert total["outcomes"] == {"refused": 48}
    assert [(failure["case"], failure["what"]) for failure in total["failures"]] == [
        (7, deaths[0, 50][2]),
        (30, "hang"),
    ]


def test_a_case_is_the_same_everywhere_and_an_unknown_reader_is_named(fuzz):
    from fuzz_mutate import Seed, damaged
    from fuzz_readers import TS

    seeds = (Seed("ts", TS, len, lambda *_: True),)
    assert [damaged("ts", seeds, case, 1)[1] for case in range(50)] == [
        damaged("ts", seeds, c, 1)[1] for c in range(50)
    ]
    assert len({damaged("ts", seeds, case, 1)[1] for case in range(50)}) > 45
    with pytest.raises(SystemExit, match="no such reader; there are ts,"):
        fuzz.main(["--readers", "gif"])
