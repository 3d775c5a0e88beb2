"""What a command imports before its work: planning and driving a sweep load nothing that only training needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {"torch", "lightning", "torchmetrics", "numba", "wandb", "sklearn", "scipy", "matplotlib"}
NETWORK = {"requests", "pooch"}
TABLES = {"pandas", "pyarrow"}
RUN = """import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *{name.partition(".")[0] for name in sys.modules})
"""


def imported(code: str, *arguments: str, data: Path) -> set[str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"AAREN_DATA": str(data)}, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.strip().splitlines()[-1].split()[1:])


def test_a_whole_plan(tmp_path):
    found = imported(RUN, "scripts/plan.py", "--totals", "--runs", str(tmp_path), data=tmp_path)
    assert "hydra" in found, "nothing was planned"
    assert not found & (TRAINING | NETWORK | TABLES | {"numpy"})


@pytest.mark.parametrize("script", ["plan", "train", "reproduce", "tables", "report"])
def test_help(script, tmp_path):
    found = imported(RUN, f"scripts/{script}.py", "--help", data=tmp_path)
    assert not found & (TRAINING | NETWORK | TABLES)


@pytest.mark.parametrize("module", ["tasks.requests", "tasks.sweeper", "tasks.worker", "tasks.launching"])
def test_a_sweep_is_driven_without_what_its_workers_need(module, tmp_path):
    code = f"import sys, {module}\nprint('imported:', *{{name.partition('.')[0] for name in sys.modules}})"
    assert not imported(code, data=tmp_path) & (TRAINING | NETWORK | TABLES)
