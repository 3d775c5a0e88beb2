"""`scripts/data.py surrogate` as a user meets it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "data.py"


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The command with a data root and a cache of the test's own."""
    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("data_surrogate_script", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: CliRunner().invoke(module.app, ["surrogate", *arguments])


def test_makes_a_file_and_says_what_it_is(call, tmp_path):
    arguments = ("hopper-random", "--steps", "1000", "--seed", "3", "--out", str(tmp_path / "out"))
    result = call(*arguments)
    assert result.exit_code == 0
    (made,) = (tmp_path / "out").glob("*.hdf5")
    assert result.stdout.startswith("hopper-random-surrogate: ")
    assert result.stdout.rstrip().endswith(f"verified: {made}")
    stamp = made.stat().st_mtime_ns
    assert call(*arguments).stdout == result.stdout
    assert made.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["hopper-medum"], 2, "no such dataset; did you mean hopper-medium"),
        (["hopper-medium", "--steps", "10"], 2, "--steps 10: must be a whole number, at least 1000"),
        (["hopper-medium", "--seed", "-4"], 2, "--seed -4: must be a whole number, at least 0"),
        (["hopper-medium", "--source", "d4rl"], 2, "--source d4rl: choose one of own, snapshots"),
        (["ant-medium", "--source", "snapshots"], 1, "log_Ant-v1_0.h5: these policies were not found. Fix: put https"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(call, arguments, code, message):
    result = call(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_made(call, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("hopper-random", "--steps", "1000", "--out", str(tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
