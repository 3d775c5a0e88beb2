"""`scripts/plan.py`: the paper's 380 jobs, sized within seconds."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from tasks.suite.layout import FAMILY_OF

ROOT = Path(__file__).resolve().parents[2]
PLANNING_SECONDS = 5  # of CPU, for 380 jobs, Python's start and the imports included; alone it takes one


def _plan(*arguments, data):
    command = [sys.executable, "scripts/plan.py", *map(str, arguments)]
    environment = {**os.environ, "AAREN_DATA": str(data)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=200, check=False)


def test_the_full_run_is_listed_and_sized(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = _plan("--runs", tmp_path, "--workers", 4, data=tmp_path)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert done.returncode == 0, done.stderr
    jobs = re.findall(r"^\s*([\d.?]+)  (done|failed|missing|unavailable) +(\S+)$", done.stdout, flags=re.M)
    assert len(jobs) >= 2 * 5 * len(FAMILY_OF)  # MIMIC has folds where its data is
    assert len({run for _, _, run in jobs}) == len(jobs)
    assert all(hours != "?" for hours, _, _ in jobs)
    total = re.search(r"^all +(\d+) jobs, +(\d+) to run: +([\d.]+) cpu hours", done.stdout, flags=re.M)
    assert total is not None
    assert int(total[1]) == len(jobs)
    assert float(total[3]) > 100
    assert "measured steps" in done.stdout
    assert "with 4 at a time" in done.stdout
    assert spent < PLANNING_SECONDS


def test_bad_requests_are_refused(tmp_path):
    done = _plan("--family", "poetry", data=tmp_path)
    assert done.returncode == 2
    assert "no such family" in done.stderr
    assert _plan("--device", "abacus", data=tmp_path).returncode == 2


def test_a_model_that_leaves_something_to_the_user_is_an_error_not_a_traceback(tmp_path):
    done = _plan("--model", "custom", data=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.attention='???': model=custom leaves it to you")
    assert "Traceback" not in done.stderr
