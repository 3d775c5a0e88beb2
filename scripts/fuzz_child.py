"""The process that reads damaged files under a memory limit: `python scripts/fuzz_child.py NAMES FIRST LAST FOLDER`.

Before each case it writes down where it is, so that its crash or hang can be charged to that case.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import resource
import struct
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from fuzz_mutate import Reader, damaged

KINDS = ("refused", "true", "untold")  # an outcome of another name is a failure
BASE = 20260101  # the base seed
SLOW_S = 5.0  # CPU seconds of one case
HEADROOM = 4 << 30  # bytes of address space that a child may take on top; arrow reserves one or two GiB at a time
GROWTH = 64 << 20  # bytes by which the resident set may grow within a block of cases, whose files are a few KiB
BLOCK = 50


def read_cases(names: list[str], first: int, last: int, folder: Path) -> None:
    """Cases `first` to `last` of each reader; the result of each, and where the reading is, lie in `folder`."""
    warnings.simplefilter("ignore")
    logging.disable()  # a damaged cache file is logged, each time
    from fuzz_readers import readers

    known = readers(folder / "files", names)
    for reader in known.values():  # what is imported, and what allocators reserve, at the first file is not the limit's
        for seed in reader.seeds:
            seed.read(seed.content)
    limit = _status("VmSize") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    descriptor = os.open(folder / "at", os.O_RDWR | os.O_CREAT)
    for index, name in enumerate(names):
        began, result = time.process_time(), empty()
        outcomes: collections.Counter[str] = collections.Counter()
        for start in range(first, last, BLOCK):
            before = _reset_peak()
            for case in range(start, min(start + BLOCK, last)):
                os.pwrite(descriptor, struct.pack("<qq", index, case), 0)
                cpu = time.thread_time()
                outcome = read_case(known[name], case)
                if time.thread_time() - cpu > SLOW_S:
                    outcome = f"slow: more than {SLOW_S:.0f} s"
                outcomes[outcome] += 1
                if outcome not in KINDS:
                    result["failures"].append({"case": case, "what": outcome})
            growth = _status("VmHWM") - before
            result["growth_bytes"] = max(result["growth_bytes"], growth)
            if growth > GROWTH:
                result["failures"].append({"case": start, "what": f"{growth >> 20} MiB for {BLOCK} small files"})
        result |= {"outcomes": dict(outcomes), "cases": last - first, "cpu_seconds": time.process_time() - began}
        (folder / f"{name}.tmp").write_text(json.dumps(result))
        (folder / f"{name}.tmp").replace(folder / f"{name}.result")


def read_case(reader: Reader, case: int) -> str:
    """Read one case: `refused`, `true`, `untold` (the format cannot tell), or what went wrong."""
    seed, content = damaged(reader.name, reader.seeds, case, BASE)
    found = None
    try:
        found = seed.read(content)
    except reader.refusals:
        pass
    except Exception as error:
        return f"escaped: {type(error).__name__}"
    verdict = seed.judge(content, found)
    if verdict is None:
        return "untold"
    if not verdict:
        return "wrong content" if found is not None else "refused what is right"
    return "refused" if found is None else "true"


def empty() -> dict[str, Any]:
    """The result of no cases."""
    return {"cases": 0, "outcomes": {}, "failures": [], "growth_bytes": 0, "cpu_seconds": 0.0}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _reset_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


if __name__ == "__main__":
    read_cases(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
