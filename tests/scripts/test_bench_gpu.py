"""The GPU benchmark where no GPU is: it refuses clearly, and all it would run can be run, small, interpreted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

SMALL = """
import sys, os
sys.path.insert(0, sys.argv[1])
os.environ["TRITON_INTERPRET"] = "1"
import bench_gpu, bench_gpu_parts as parts
from bench_training import Size

def clock(function):
    function()
    return [1.0, 0.5, 2.0]

checks = [*parts.parity_rows([(1, 1, 3, 2)], "cpu"), *parts.stream_error_rows(6, 3, "cpu")]
assert checks and all(row["holds"] for row in checks), [row for row in checks if not row["holds"]]
operator = list(parts.operator_rows([(1, 1, 4096)], (1,), ("float32",), lambda f: [1.0, 1.0, 1.0], "cpu"))
assert {row["direction"] for row in operator} == {"forward", "forward, training", "backward"}
sdpa = list(parts.sdpa_rows((16,), 1, 2, clock, "cpu"))
assert len(list(parts.training_rows([Size("t", 1, 2, 4, 4, 1, 1)], clock, "cpu"))) == 2
assert next(iter(parts.step_rows((2,), clock, "cpu")))["tokens_s"] == 2000
found = bench_gpu.bars(operator, sdpa)
assert len(found) == 5 and found[0][1] == min(r["of_copy"] for r in operator if r["direction"] == "forward")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_without_a_gpu_it_says_so_and_what_to_do():
    done = run(str(SCRIPTS / "bench_gpu.py"))
    assert done.returncode == 2
    assert "needs a GPU" in done.stderr
    assert "make bench" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU `make bench-gpu` itself runs")
def test_every_part_runs_interpreted():
    pytest.importorskip("triton", reason="triton is not installed (extra gpu)")
    done = run("-c", SMALL, str(SCRIPTS))
    assert done.returncode == 0, done.stderr
