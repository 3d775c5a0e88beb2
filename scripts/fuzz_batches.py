"""Batches of damaged files, read by child processes: one that crashes or hangs costs its case, and the rest is read."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from fuzz_child import empty

HANG_CPU_S, HANG_S = 20.0, 600.0  # at one case: CPU seconds, or as many of the clock (waiting, on a busy machine)


def read_batch(names: list[str], first: int, last: int) -> dict[str, dict[str, Any]]:
    """Cases `first` to `last` of each reader; one that kills or stops its child is a failure, and the rest is run."""
    totals = {name: empty() for name in names}
    waiting = [(name, first, last) for name in names]
    while waiting:
        _, start, end = waiting[0]
        together = [name for name, *limits in waiting if limits == [start, end]]
        found, at = _spawn(together, start, end)
        for name, result in found.items():
            add(totals[name], result)
        waiting = [item for item in waiting if item not in {(name, start, end) for name in found}]
        if at is not None:
            name, case, how = at
            totals[name]["failures"].append({"case": case, "what": how})
            totals[name]["cases"] += 1
            waiting.remove((name, start, end))
            waiting += [(name, a, b) for a, b in ((start, case), (case + 1, end)) if a < b]
    return totals


def add(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Put the result of more cases on top of `total`."""
    counts = collections.Counter(total["outcomes"]) + collections.Counter(more["outcomes"])
    total["outcomes"] = dict(sorted(counts.items()))
    total["failures"] += more["failures"]
    total["growth_bytes"] = max(total["growth_bytes"], more["growth_bytes"])
    for name in ("cases", "cpu_seconds"):
        total[name] += more[name]


def _spawn(names: list[str], first: int, last: int) -> tuple[dict[str, Any], tuple[str, int, str] | None]:
    """One child's results by reader, and where and how it ended if not by itself."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        child_script = str(Path(__file__).with_name("fuzz_child.py"))
        command = [sys.executable, child_script, ",".join(names), str(first), str(last), folder]
        environment = os.environ | {"AAREN_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        process, seen, cpu, clock = psutil.Process(child.pid), None, 0.0, 0.0
        while child.poll() is None:
            time.sleep(0.1)
            where = _progress(Path(folder))
            with contextlib.suppress(psutil.Error):  # it may have just ended
                used = sum(process.cpu_times()[:2])
                if where != seen or process.status() == psutil.STATUS_STOPPED:  # somebody wants the machine quiet
                    seen, cpu, clock = where, used, time.monotonic()
                elif where[1] >= 0 and (used - cpu > HANG_CPU_S or time.monotonic() - clock > HANG_S):
                    child.kill()
                    child.wait()
                    return _reported(Path(folder)), (names[where[0]], where[1], "hang")
        found = _reported(Path(folder))
        if child.returncode == 0:
            return found, None
        where = _progress(Path(folder))
        if where[1] < 0:
            raise SystemExit(f"the reading process ended with {child.returncode} before the first case")
        return found, (names[where[0]], where[1], f"crash of the process ({child.returncode})")


def _progress(folder: Path) -> tuple[int, int]:
    try:
        return struct.unpack("<qq", (folder / "at").read_bytes())
    except (OSError, struct.error):
        return 0, -1


def _reported(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.result")}
