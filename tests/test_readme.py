"""The README is run: its commands, its Python, its file names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.overrides import check_overrides
from tasks.suite.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.M | re.S)
COMMANDS = [line.split("  #")[0].strip() for kind, body in BLOCKS if kind == "bash" for line in body.splitlines()]
COMMANDS = [line.split("   #")[0].strip() for line in COMMANDS if line and not line.startswith("#")]
PYTHON = [body for kind, body in BLOCKS if kind == "python"]
PLUGIN = next(body for body in PYTHON if "register_attention" in body)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("command", [c for c in COMMANDS if "scripts/train.py" in c])
def test_training_commands(command, tmp_path):
    """Smoke commands run; the others compose to a job, with every override checked."""
    words = shlex.split(command)
    assert words[:2] == [".venv/bin/python", "scripts/train.py"]
    arguments = words[2:]
    check_overrides(arguments, ROOT / "conf")
    train = [sys.executable, str(ROOT / "scripts" / "train.py")]
    (tmp_path / "my_backbone.py").write_text(PLUGIN)
    if "profile=smoke" in arguments:
        run([*train, *arguments, "logger=none", f"runs_dir={tmp_path / 'runs'}"], tmp_path)
        assert list((tmp_path / "runs").glob("*/record.json"))
    elif "--cfg" in arguments:
        assert "dataset" in run([*train, *arguments], tmp_path).stdout
    else:
        single = [part for part in arguments if part != "-m" and not part.startswith(("experiment=", "hydra"))]
        single = [re.sub(r"=(glob\(.*\)|[^=]*,.*)$", "", part) for part in single]
        run([*train, "--cfg", "job", *(part for part in single if "=" in part)], tmp_path)


@pytest.mark.parametrize("command", [c for c in COMMANDS if re.search(r"scripts/(data|tables|bench|export)\.py", c)])
def test_other_scripts_know_the_commands_shown(command, tmp_path):
    words = shlex.split(command)
    if "get" in words:  # a download: only that the command and the name exist
        words = [*words[: words.index("get") + 1], "--help"]
    if "surrogate" in words:  # writes into the data root, which may be the reader's own
        words = [*words[: words.index("surrogate") + 1], "--help"]
    if "run=RUN_ID" in words:  # stands for a run that the reader has
        words = [*words[:2], "--help"]
    run([sys.executable, str(ROOT / words[1]), *words[2:]], tmp_path)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    words = shlex.split(command)
    subprocess.run(["make", "--dry-run", *words[1:]], check=True, capture_output=True, cwd=ROOT)


def test_every_command_is_of_a_kind_that_is_tested():
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        assert re.match(r"(make |\.venv/bin/python scripts/(train|data|tables|bench|export)\.py)", command), command


def test_python_runs(tmp_path, capsys):
    for body in PYTHON:
        if body is not PLUGIN:
            exec(compile(body, "README.md", "exec"), {})
    assert "bytes remember 8 sequences" in capsys.readouterr().out


def test_yaml_examples_are_like_those_shipped(tmp_path):
    config, row = [body for kind, body in BLOCKS if kind == "yaml"]
    shipped = (ROOT / "conf" / "dataset" / "extra" / "us-temperatures.yaml").read_text()
    assert yaml.safe_load(config).keys() == yaml.safe_load(shipped).keys()
    row = yaml.safe_load(row.replace("sha256: ...", f"sha256: {'a' * 64}"))
    manifest = yaml.safe_load((ROOT / "tasks" / "manifest.yaml").read_text())
    manifest["datasets"] |= row
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(manifest))
    assert read_manifest(path).datasets["extra/my-series"].family == "forecasting"


def test_files_it_names_are_there():
    for name in re.findall(r"`((?:aaren|tasks|conf|scripts|tests|results)/[\w/.-]+)`", TEXT):
        if not name.startswith(("results/runs", "results/measured")):
            assert (ROOT / name).exists(), name


def test_help_lists_every_target():
    shown = subprocess.run(["make", "help"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    for target in (
        "setup",
        "test",
        "lint",
        "reproduce",
        "sweep",
        "tables",
        "report",
        "verify",
        "plan",
        "data",
        "bench",
        "clean",
    ):
        assert re.search(rf"make {target}\b", shown), target
