"""The largest sets fit: two million steps load in seconds and a fraction of the memory they must fit in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.rl.d4rl import RESET_HEIGHT
from tasks.rl.robots import ROBOTS

LOAD = """
import resource, sys, time
from pathlib import Path
from tasks.data import Resolved, load_cached
from tasks.rl.d4rl import PARSE_VERSION, as_episodes, parse
from tasks.suite.manifest import VariantEntry
entry = VariantEntry("official", "none stated", {})
found = Resolved("ROBOT-medium-expert", "rl", "official", {"trajectories": Path(sys.argv[1])}, {}, "", entry)
start = time.process_time()
episodes = as_episodes(load_cached(found, parse, PARSE_VERSION))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(len(episodes.rewards), time.process_time() - start, peak)
"""


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("robot", ["hopper", "ant"])
def test_two_million_steps_load_within_3_gb_and_20_seconds(robot, tmp_path):
    rows, facts, rng = 2_000_000, ROBOTS[robot], np.random.default_rng(0)
    starts = np.arange(0, rows, 625)
    observations = rng.random((rows, facts.simulated), np.float32)
    observations[starts, 0] = RESET_HEIGHT[robot][0]
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        packed = {"compression": "gzip", "compression_opts": 1, "chunks": True}
        stored = file.create_dataset("observations", (rows, facts.observations), "f4", **packed)
        stored[:, : facts.simulated] = observations
        file.create_dataset("actions", data=rng.random((rows, facts.actions), np.float32), **packed)
        file.create_dataset("rewards", data=rng.random(rows, np.float32), **packed)
        for name, ends in (("terminals", starts[1::2] - 1), ("timeouts", np.append(starts[2::2], rows) - 1)):
            flags = np.zeros(rows, bool)
            flags[ends] = True
            file.create_dataset(name, data=flags, **packed)
    environment = {**os.environ, "AAREN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path.cwd())}
    for source in ("file", "cache"):
        command = [sys.executable, "-c", LOAD.replace("ROBOT", robot), str(tmp_path / "set.hdf5")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        steps, seconds, peak = map(float, done.stdout.split())
        assert steps == rows, source
        assert seconds < 20, source
        assert peak < 3e9, source
