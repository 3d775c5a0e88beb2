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

parts.SPREADS, parts.DTYPES = (5.0,), {"float32": parts.DTYPES["float32"]}
checks = [*parts.parity_rows([(1, 1, 3, 2)], "cpu"), *parts.stream_error_rows(6, 3, "cpu")]
assert checks and all(row["holds"] for row in checks), [row for row in checks if not row["holds"]]
operator = list(parts.operator_rows([(1, 1, 8)], (2,), ("float32",), clock, "cpu"))
assert {row["direction"] for row in operator} == {"forward", "forward, training", "backward"}
sdpa = list(parts.sdpa_rows((8,), 1, 2, clock, "cpu"))
assert len(list(parts.training_rows([Size("t", 1, 2, 4, 4, 1, 1)], clock, "cpu"))) == 2
assert next(iter(parts.step_rows((2,), clock, "cpu")))["tokens_s"] == 2000
assert all(measured != measured for _, measured, _ in bench_gpu.bars(operator, sdpa)), "nothing that small counts"
long = [row | {"tokens": 4096, "MB": 300, "of_copy": share} for row in operator for share in (0.5, 0.9)]
assert [measured for _, measured, _ in bench_gpu.bars(long, sdpa)][:4] == [0.5] * 4
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
