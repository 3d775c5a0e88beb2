"""The kernels of an installed package are compiled once a machine, not once a process."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aaren
from aaren.ops import backward_kernels, kernels, step_kernels

PROGRAM = """
import numpy as np, aaren
from aaren.ops import step_kernels
one = np.ones((1, 1), np.float32)
state = np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1, 1))
step_kernels.absorb(0, 1, np.ones((1, 1, 2), np.float32), *state, np.ones(0, bool), False, one[None])
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


@pytest.mark.parametrize("module", [kernels, backward_kernels, step_kernels])
def test_a_change_in_what_a_kernel_is_made_with_changes_its_file(module):
    """Else an upgrade that leaves this file alone would go on with the machine code of the old release."""
    folder = Path(module.__file__).parent
    digests = {name: hashlib.sha256((folder / f"{name}.py").read_bytes()).hexdigest()[:16] for name in module.MADE_WITH}
    assert digests == module.MADE_WITH, f"write {digests} into MADE_WITH of {Path(module.__file__).name}"


def test_every_kernel_file_names_what_it_is_made_with():
    for module in (kernels, backward_kernels, step_kernels):
        source = Path(module.__file__).read_text()
        used = {
            line.split()[1].rpartition(".")[2] for line in source.splitlines() if line.startswith("from aaren.ops.")
        }
        assert used == set(module.MADE_WITH)
