"""Damage files by the hundred thousand and read them: `python scripts/fuzz.py [--mutations 100000] [--readers ts,npz]`.

Every case is made from its number, so a failure is run again by `--replay READER:CASE`. The reading is done by a child
process under a memory limit; a crash or a hang of it is charged to the case it was at, and the next child goes on
behind that one. An interrupted run goes on where it stopped (`--fresh` starts anew).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import logging
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
from faults_common import RELIABILITY, Part
from fuzz_mutate import Reader, damaged

ROOT = Path(__file__).resolve().parent.parent
_TEXT = ("files.py", "classification/text.py", "classification/panel.py")
SOURCES = {  # by reader: the files of `tasks` that do the reading
    "ts": (*_TEXT, "classification/ts.py"),
    "arff": (*_TEXT, "classification/arff.py"),
    "csv": ("forecasting/series.py",),
    "events": ("files.py", "events/layouts.py", "events/importers.py", "events/unpickle.py", "events/sequences.py"),
    "parquet": ("parquet.py", "forecasting/series.py", "events/readers.py", "events/sequences.py"),
    "npz": ("npz.py", "cache.py", "events/readers.py", "events/importers.py", "events/unpickle.py", "rl/policies.py"),
    "hdf5": ("files.py", "rl/d4rl.py"),
    "records": ("suite/records.py", "suite/identity.py", "suite/record.schema.json"),
    "checkpoints": ("checkpoints.py",),
    "archives": ("unpack.py", "verify.py"),
    "hashed": ("verify.py", "files.py"),
}
JUDGES = {"ts": "series", "arff": "series", "csv": "series", "events": "events", "archives": "readers"}
PROMISE = (
    "A damaged file is refused or read as what it says; no reader crashes, hangs or takes memory that the file lacks"
)
KINDS = ("refused", "true", "untold")  # an outcome of another name is a failure
LONG = 100_000
BASE = 20260101  # the base seed
BATCH = 20_000  # cases a child reads before another takes over
HANG_CPU_S, HANG_S = 20.0, 600.0  # at one case: CPU seconds, or as many of the clock (waiting, on a busy machine)
SLOW_S = 5.0  # CPU seconds of one case
HEADROOM = 4 << 30  # bytes of address space that a child may take on top; arrow reserves one or two GiB at a time
GROWTH = 64 << 20  # bytes by which the resident set may grow within a block of cases, whose files are a few KiB
BLOCK = 50


def main(arguments: list[str]) -> int:
    """Run what is asked for; the exit code is 1 where a reader failed."""
    options = _options(arguments)
    if options.child:
        _child(options.child.split(","), options.first, options.last, Path(options.folder))
        return 0
    if options.replay:
        return _replay(options.replay)
    names = options.readers.split(",") if options.readers else list(SOURCES)
    unknown = sorted(set(names) - set(SOURCES))
    if unknown:
        raise SystemExit(f"--readers {','.join(unknown)}: no such reader; there are {', '.join(SOURCES)}")
    settings = {"mutations": options.mutations, "seed": BASE, "readers": ",".join(names)}
    part = (
        Part("fuzz", PROMISE, "python scripts/fuzz.py", Path(options.out or RELIABILITY), settings)
        if _whole(options)
        else None
    )
    there = {row["reader"] for row in part.seen} if part else set()
    waiting = [name for name in names if name not in there]
    failed = 0
    for group in [waiting] if options.mutations <= BATCH else [[name] for name in waiting]:
        for name, result in _run(group, options.mutations, Path(options.state), options.fresh).items():
            print(_line(name, result), flush=True)
            failed += len(result["failures"])
            if part:
                part.add(not result["failures"], **_row(name, result))
    if part:
        part.finish(**_figures(part.seen))
    return 1 if failed else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=LONG, help=f"damaged files a reader is given ({LONG})")
    parser.add_argument("--readers", default="", help=f"some of {','.join(SOURCES)}; all if left out")
    parser.add_argument(
        "--out", default="", help="the folder for fuzz.csv and fuzz.json (a long run: results/reliability)"
    )
    parser.add_argument("--state", default="outputs/fuzz", help="where an interrupted run is gone on from")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--replay", default="", metavar="READER:CASE", help="read one case in this process")
    for name, kind in (("--child", str), ("--first", int), ("--last", int), ("--folder", str)):
        parser.add_argument(name, type=kind, default=kind(), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run(names: list[str], count: int, state: Path, fresh: bool) -> dict[str, dict[str, Any]]:
    """All cases of some readers, read by children; what there is so far lies in `state`."""
    memory = state / f"{'-'.join(names)}-{count}-{_fingerprint(names)}.json"
    so_far: dict[str, Any] = {"done": 0, "seconds": 0.0, "results": {name: _empty() for name in names}}
    if memory.is_file() and not fresh:
        so_far = json.loads(memory.read_text())
    while so_far["done"] < count:
        first, last = so_far["done"], min(count, so_far["done"] + BATCH)
        began = time.monotonic()
        for name, result in _batch(names, first, last).items():
            _add(so_far["results"][name], result)
        so_far["done"], so_far["seconds"] = last, so_far["seconds"] + time.monotonic() - began
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.with_suffix(".tmp").write_text(json.dumps(so_far))
        memory.with_suffix(".tmp").replace(memory)
    return so_far["results"]


def _empty() -> dict[str, Any]:
    return {"cases": 0, "outcomes": {}, "failures": [], "growth_bytes": 0, "cpu_seconds": 0.0}


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    counts = collections.Counter(total["outcomes"]) + collections.Counter(more["outcomes"])
    total["outcomes"] = dict(sorted(counts.items()))
    total["failures"] += more["failures"]
    total["growth_bytes"] = max(total["growth_bytes"], more["growth_bytes"])
    for name in ("cases", "cpu_seconds"):
        total[name] += more[name]


def _batch(names: list[str], first: int, last: int) -> dict[str, dict[str, Any]]:
    """Cases `first` to `last` of each reader; one that kills or stops its child is a failure, and the rest is run."""
    totals = {name: _empty() for name in names}
    waiting = [(name, first, last) for name in names]
    while waiting:
        _, start, end = waiting[0]
        together = [name for name, *limits in waiting if limits == [start, end]]
        found, at = _spawn(together, start, end)
        for name, result in found.items():
            _add(totals[name], result)
        waiting = [item for item in waiting if item not in {(name, start, end) for name in found}]
        if at is not None:
            name, case, how = at
            totals[name]["failures"].append({"case": case, "what": how})
            totals[name]["cases"] += 1
            waiting.remove((name, start, end))
            waiting += [(name, a, b) for a, b in ((start, case), (case + 1, end)) if a < b]
    return totals


def _spawn(names: list[str], first: int, last: int) -> tuple[dict[str, Any], tuple[str, int, str] | None]:
    """One child's results by reader, and where and how it ended if not by itself."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        command = [sys.executable, __file__, "--child", ",".join(names), "--first", str(first), "--last", str(last)]
        environment = os.environ | {"AAREN_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        child = subprocess.Popen([*command, "--folder", folder], env=environment, stdout=subprocess.DEVNULL)
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


def _child(names: list[str], first: int, last: int, folder: Path) -> None:
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
        began, result = time.process_time(), _empty()
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


def _replay(where: str) -> int:
    from fuzz_readers import readers

    name, _, case = where.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AAREN_CACHE"] = f"{folder}/cache"
        reader = readers(Path(folder), [name])[name]
        seed, content = damaged(reader.name, reader.seeds, int(case), BASE)
        print(f"{name}, {seed.name}, {len(content)} bytes:", content)
        with contextlib.suppress(*reader.refusals):
            print("read:", seed.read(content))
        outcome = read_case(reader, int(case))
    print("outcome:", outcome)
    return 0 if outcome in KINDS else 1


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _reset_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _fingerprint(names: list[str]) -> str:
    """Of what makes, reads and judges the cases of these readers: an interrupted run of another is not gone on from."""
    judges = (f"fuzz_{part}.py" for name in names for part in ("mutate", "readers", JUDGES.get(name, "binary")))
    paths = [
        *(Path(__file__).parent / name for name in judges),
        *(ROOT / "tasks" / f for n in names for f in SOURCES[n]),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _line(name: str, result: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in result["outcomes"].items())
    growth = f"{result['growth_bytes'] / 2**20:.1f} MiB"
    lines = [f"{name}: {result['cases']} cases: {counts}; at most {growth} more memory, {result['cpu_seconds']:.0f} s"]
    lines += [f"  FAILED {name}:{failure['case']}: {failure['what']}" for failure in result["failures"][:20]]
    return "\n".join(lines)


def _whole(options: argparse.Namespace) -> bool:
    """Whether the run is one to keep: all readers and the long count, or a folder was named."""
    return bool(options.out) or not (options.readers or options.mutations < LONG)


def _row(name: str, result: dict[str, Any]) -> dict[str, Any]:
    counts = {outcome: result["outcomes"].get(outcome, 0) for outcome in KINDS}
    growth = round(result["growth_bytes"] / 2**20, 1)
    facts = {"failures": len(result["failures"]), "growth_mib": growth, "cpu_seconds": round(result["cpu_seconds"])}
    return {"reader": name, "cases": result["cases"], **counts, **facts}


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(int(row[name]) for row in rows) for name in ("cases", *KINDS, "failures", "cpu_seconds")}
    return sums | {"growth_mib": max(float(row["growth_mib"]) for row in rows)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
