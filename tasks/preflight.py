"""Before a sweep: can a node read the data, write the results, and run the same code as the one that sends the jobs?

A cluster's node that lacks the data root would record every job it gets as unavailable, one with another version
would make other numbers: better one check a node before 380 jobs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.data import DatasetError, DatasetUnavailable, data_root, resolve
from tasks.errors import ConfigError
from tasks.suite.atomic import write_atomic
from tasks.suite.environment import environment

PROBE = ".preflight"
# What must be the same for a job to be sent at all; every version is in its record.
SAME_VERSION = ("aaren", "hydra-core", "lightning", "omegaconf", "torch")
ENOUGH_BYTES = 200_000_000  # checkpoints of a few jobs


def request(datasets: Iterable[str], fetch: bool) -> dict[str, Any]:
    """What the driver asks of a node: the datasets that the driver itself has, all of them, and its versions.

    Args:
        datasets: names that the sweep needs.
        fetch: whether a node may download what it lacks.
    """
    names = sorted(set(datasets))
    return {
        "here": [name for name in names if _lacks(name) is None],
        "datasets": names,
        "fetch": fetch,
        "versions": _versions(),
        "commit": environment()["git"]["commit"],
    }


def inspect(asked: Mapping[str, Any], runs: Path, device: str) -> dict[str, Any]:
    """Check this node: `{host, problems: [what, and the remedy], fetched: [dataset], commit}`.

    A dataset that the driver lacks as well is no problem: its jobs will be recorded as unavailable, here as there.
    """
    problems, fetched = [], []
    for check in (lambda: _results(runs), lambda: _device(device), lambda: _other_versions(asked["versions"])):
        problems += check()
    for name in asked["datasets"]:
        error = _lacks(name)
        if error is not None and asked["fetch"]:
            from tasks.acquire import get  # requests and pooch, of which a sweep that fetches nothing has no use

            try:
                get(name)
                fetched.append(name)
                continue
            except DatasetError as failed:
                error = failed
        if error is not None and (name in asked["here"] or not isinstance(error, DatasetUnavailable)):
            where = f"AAREN_DATA={os.environ['AAREN_DATA']}" if os.environ.get("AAREN_DATA") else "AAREN_DATA not set"
            remedy = "share the data root with the node and set AAREN_DATA there, or let it fetch what can be fetched:"
            problems.append(
                f"{name}: {error.reason} (data root {data_root()}, {where}). Fix: {remedy} hydra.sweeper.fetch=true"
            )
    return {
        "host": socket.gethostname(),
        "problems": problems,
        "fetched": fetched,
        "commit": environment()["git"]["commit"],
    }


def _lacks(name: str) -> DatasetError | None:
    try:
        resolve(name)
    except DatasetError as error:
        return error
    except ConfigError:
        return None  # an unknown name is the job's to refuse
    return None


def _results(runs: Path) -> Sequence[str]:
    probe = runs / f"{PROBE}-{socket.gethostname()}-{os.getpid()}"
    try:
        write_atomic(probe, b"", durable=False)
        probe.unlink()
        state = os.statvfs(runs)
    except OSError as error:
        return [f"{error}; or choose another results folder for it: runs_dir=..., or AAREN_RUNS on the node"]
    free = state.f_bavail * state.f_frsize
    if free < ENOUGH_BYTES:
        return [f"{runs}: {free / 1e6:.0f} MB are free, too few for checkpoints. Fix: free some, or runs_dir=..."]
    return []


def _device(device: str) -> Sequence[str]:
    if device != "cuda":
        return []
    import torch

    if torch.cuda.is_available():
        return []
    return ["device=cuda, and torch sees no GPU. Fix: ask the launcher for one (gpus_per_node=1; ray.gpus=1)"]


def _versions() -> dict[str, str | None]:
    packages = environment()["packages"]
    return {name: packages.get(name) for name in SAME_VERSION}


def _other_versions(meant: Mapping[str, str | None]) -> Sequence[str]:
    mine = _versions()
    other = [f"{name} {mine[name]} instead of {meant[name]}" for name in mine if mine[name] != meant[name]]
    if not other:
        return []
    remedy = "install the same there: pip install -c constraints.txt -e '.[suite]'"
    return [f"other versions than where the sweep was started: {', '.join(other)}. Fix: {remedy}"]
