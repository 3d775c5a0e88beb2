"""Where a number came from: commit, package versions, hardware. By allow-list, since records get published.

No environment variable, path, user or host name enters.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

# What can change a number; everything else is in constraints.txt at the commit.
PACKAGES = (
    "aaren", "gymnasium", "h5py", "hydra-core", "lightning", "mujoco", "numba", "numpy", "omegaconf", "pandas",
    "pyarrow", "scikit-learn", "scipy", "sktime", "torch", "torchmetrics", "triton",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """`{"git": {commit, dirty}, "packages": {name: version}, "hardware": {...}}`, all JSON types."""
    return {"git": dict(_git()), "packages": dict(_packages()), "hardware": _hardware()}


@cache
def _git() -> dict[str, Any]:
    """The project's commit and whether anything but results/ differs from it; None where there is no git."""
    unknown = {"commit": None, "dirty": None}
    if not (_ROOT / ".git").exists():  # an installed copy may lie inside somebody else's repository
        return unknown
    try:
        commit = _ask_git("rev-parse", "HEAD")
        changes = _ask_git("status", "--porcelain", "--untracked-files=normal", "--", ".", ":!results")
    except (OSError, subprocess.SubprocessError):
        return unknown
    return {"commit": commit, "dirty": bool(changes)}


def _ask_git(*words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(_ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


@cache
def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    hardware: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": None,
        "threads": None,
    }
    torch = sys.modules.get("torch")  # never imported from here: tables must do without it
    if torch is not None:
        hardware["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            hardware["gpu"] = torch.cuda.get_device_name(0)
    return hardware


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.machine()
