"""The README's multiruns on every launcher: the same records, after a kill too, and from a worker with another disk."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.suite import records

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SAME = 1e-5
pytestmark = pytest.mark.timeout(900)  # several processes start one after another: minutes on a busy machine
# As they stand in the README but for size: two jobs, nobody's cluster, no job longer than seconds.
SUBSTITUTES = {
    "dataset": "JapaneseVowels", "model": "aaren", "seed": "0,1", "profile": "smoke",
    "hydra.launcher.n_jobs": "2", "ray.address": "null",
}  # fmt: skip
LONGER = ("task.budget.max_steps=30", "task.budget.eval_every=3", "logger=none", "progress=none")


def example(launcher: str) -> list[str]:
    """The arguments of the README's multirun on a launcher, with the substitutes in."""
    (line,) = re.findall(rf"^\.venv/bin/python scripts/train\.py (-m .*hydra/launcher={launcher}\b.*)$", README, re.M)
    words = [word for word in shlex.split(line) if not word.startswith("hydra.launcher.partition=")]
    words = [f"{key}={SUBSTITUTES.get(key, value)}" if value else key for key, _, value in map(split, words)]
    return [word.replace("submitit_slurm", "submitit_local") for word in words]


def split(word: str) -> tuple[str, str, str]:
    return word.partition("=")


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments, *LONGER]
    env = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"} | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def found(runs: Path) -> dict[str, dict]:
    gathered = records.read_all(runs)
    assert not gathered.problems
    return {record["run_id"]: record for record in gathered.records}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """The records of the two jobs, one after the other in one process."""
    runs = tmp_path_factory.mktemp("basic")
    finish(start(*[word for word in example("joblib") if not word.startswith("hydra")], f"runs_dir={runs}"))
    return found(runs)


def assert_same(records_of_one: dict[str, dict], records_of_other: dict[str, dict]) -> None:
    assert records_of_one.keys() == records_of_other.keys()
    for run, one in records_of_one.items():
        other = records_of_other[run]
        assert (one["status"], other["status"]) == ("done", "done")
        assert one["selection"]["step"] == other["selection"]["step"]
        for part, measures in one["metrics"].items():
            for name, measure in measures.items():
                assert other["metrics"][part][name]["value"] == pytest.approx(measure["value"], abs=SAME), (run, name)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm"])
def test_killed_and_resumed_gives_the_same_records(launcher, undisturbed, tmp_path):
    arguments = [*example(launcher), f"runs_dir={tmp_path}"]
    process = start(*arguments)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    everybody = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everybody:
        one.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(everybody, timeout=30)
    left = [record["status"] for record in found(tmp_path).values()]
    assert left != ["done", "done"], "killed too late to try anything"
    finish(start(*arguments))
    resumed = found(tmp_path)
    assert_same(undisturbed, resumed)
    assert "2 of them done already" in finish(start(*arguments))
    assert found(tmp_path) == resumed, "a done job was done again"


def test_ray_on_a_worker_with_another_working_and_results_folder(undisturbed, tmp_path):
    """The worker's disk is not the driver's: records come back through the launcher."""
    driver, worker, elsewhere = (tmp_path / name for name in ("driver", "worker", "elsewhere"))
    elsewhere.mkdir()
    there = "+hydra.launcher.ray.init.runtime_env"
    arguments = [*example("ray"), f"{there}.working_dir={elsewhere}", f"{there}.env_vars.AAREN_RUNS={worker}"]
    output = finish(start(*arguments, AAREN_RUNS=str(driver)))
    assert_same(undisturbed, found(worker))
    assert found(driver) == found(worker), output
    assert not list(driver.glob("*/checkpoints")), "trained where the driver is"
    assert "2 of them done already" in finish(start(*arguments, AAREN_RUNS=str(driver)))
