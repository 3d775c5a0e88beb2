"""The kernels of an installed package are compiled once a machine, not once a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import aaren

PROGRAM = """
import numpy as np, aaren
from aaren.ops import step_kernels
one = np.ones((1, 1), np.float32)
state = np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1, 1))
step_kernels.absorb(np.ones((1, 2), np.float32), *state, np.ones(0, bool), False, one, 0, 1)
stats = step_kernels.absorb.stats
print(aaren.__file__, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path):
    site = tmp_path / "site-packages"
    shutil.copytree(Path(aaren.__file__).parent, site / "aaren", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        file, hits, misses = done.stdout.split()
        assert Path(file).is_relative_to(site)
        found.append((int(hits), int(misses)))
    assert found == [(0, 1), (1, 0)]
