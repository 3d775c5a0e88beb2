"""The benchmark at tiny sizes: CSVs, figures, page; what is done is not done twice; unusable options are refused."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)  # several processes, each of which loads torch

CSVS = {"operator", "operator-threads", "operator-error", "training", "figure5-1", "figure5-128", "figure5-whole"}
CSVS |= {"streams-one", "streams"}
FIGURES = {"operator", "training", "figure5", "streams"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=800, check=False, env=os.environ | {"COLUMNS": "400"}
    )


@pytest.fixture
def here(monkeypatch, capsys):
    """`here("operator", ...)`: the program in this process, which has its imports: exit code, output, errors.

    Left out is what sets a process up for measuring.
    """
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("COLUMNS", "400")
    program = importlib.import_module("bench")
    monkeypatch.setattr(program, "prepare", lambda threads: None)

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return ended.value.code, *capsys.readouterr()

    return run


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Every part at its smallest, in one call."""
    out = tmp_path_factory.mktemp("efficiency") / "new"
    done = bench("all", "--most", "30", "--repeats", "1", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_part_leaves_its_csv_with_where_it_was_measured(tiny):
    assert {path.stem for path in tiny.glob("*.csv")} == CSVS
    for path in tiny.glob("*.csv"):
        for row in rows_of(path):
            assert all(row[column] for column in ("cpu", "torch", "source")), path.name
            assert "most=30" in row["settings"], path.name
            assert None not in row, "a cell too many"
    models = {row["model"] for row in rows_of(tiny / "figure5-1.csv")}
    assert models == {"aaren", "transformer", "naive cache", "gru", "lstm"}
    assert {row["how"] for row in rows_of(tiny / "figure5-whole.csv")} == {"run whole"}


def test_medians_lie_between_their_quartiles_and_times_add_up(tiny):
    for path in tiny.glob("*.csv"):
        for row in rows_of(path):
            if "ms" in row:
                assert 0 < float(row["ms_min"]) <= float(row["ms"]), path.name
                assert float(row["ms_q1"]) <= float(row["ms"]) <= float(row["ms_q3"]), path.name
    start, end = (r for r in rows_of(tiny / "figure5-1.csv") if r["model"] == "transformer")
    assert float(end["cumulative_s"]) == pytest.approx(30 * (float(start["ms"]) + float(end["ms"])) / 2e3, rel=1e-3)
    assert int(end["state_bytes"]) == 30 * 2 * 512 * 4
    assert {r["state_bytes"] for r in rows_of(tiny / "figure5-1.csv") if r["model"] == "aaren"} == {str(8 * 66 * 8)}


def test_figures_are_whole_and_the_same_when_drawn_again(tiny):
    before = {path.name: path.read_bytes() for path in tiny.iterdir()}
    assert {path.stem for path in tiny.glob("*.png")} == {path.stem for path in tiny.glob("*.svg")} == FIGURES
    done = bench("figures", "--out", str(tiny))
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in tiny.iterdir()} == before
    for path in tiny.glob("*.png"):
        assert before[path.name].startswith(b"\x89PNG")
        assert before[path.name].rstrip().endswith(b"IEND\xaeB`\x82")
    for path in tiny.glob("*.svg"):
        text = " ".join(ElementTree.parse(path).getroot().itertext())
        assert "numba" in text, "hardware and versions belong in the caption"


def test_the_page_shows_the_figures_and_names_command_and_settings(tiny):
    page = (tiny / "README.md").read_text()
    for name in FIGURES:
        assert f"({name}.png)" in page
    for name in CSVS:
        assert f"| `{name}.csv` |" in page
    assert "make bench" in page


def test_what_was_measured_with_this_code_is_not_measured_again(tiny, here):
    before = (tiny / "operator-error.csv").stat().st_mtime_ns
    again = ["operator", "--out", str(tiny), "--repeats", "1", "--most", "30", "--resume"]
    code, output, errors = here(*again)
    assert code == 0, errors
    assert output.count("measured before") == 3
    (tiny / "operator-error.csv").write_text("method,score_std\n")  # cut off
    assert here(*again)[1].count("measured before") == 2
    assert (tiny / "operator-error.csv").stat().st_mtime_ns != before
    assert len(rows_of(tiny / "operator-error.csv")) > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["all", "--parts", "operater"], "operater"),
        (["operator", "--repeats", "0"], "--repeats"),
        (["operator", "--threads", "0"], "--threads"),
        (["operator", "--most", "1"], "--most"),
        (["train-step", "--most", "8"], "--most"),
        (["train-step", "--models", "aaren,transfomer", "--most", "30"], "transfomer"),
        (["train-step", "--plugin", "missing.py"], "missing.py"),
        (["figures", "--out", "EMPTY"], "scripts/bench.py all"),
        (["figures", "--out", "FILE"], "is a file"),
        (["speed"], "speed"),
    ],
)
def test_unusable_options_end_in_one_message(arguments, words, tmp_path, here):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {"FILE": str(tmp_path / "file"), "EMPTY": str(tmp_path / "empty")}
    code, output, errors = here(*(places.get(word, word) for word in arguments))
    assert code == 2, output + errors
    assert words in errors


def test_a_csv_that_is_no_table_is_named(tmp_path):
    """As a user meets it, in a process of its own: one line, no traceback."""
    (tmp_path / "operator.csv").write_bytes(b"\xff\xfe\x00")
    done = bench("figures", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "operator.csv" in done.stderr
    assert "scripts/bench.py" in done.stderr
    assert "Traceback" not in done.stderr
