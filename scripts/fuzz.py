"""Damage files by the hundred thousand and read them: `python scripts/fuzz.py [--mutations 100000] [--readers ts,npz]`.

Every case is made from its number, so a failure is run again by `--replay READER:CASE`. The reading is done by a child
process under a memory limit; a crash or a hang of it is charged to the case it was at, and the next child goes on
behind that one. An interrupted run goes on where it stopped (`--fresh` starts anew).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faults_common import RELIABILITY, Part
from fuzz_batches import add, read_batch
from fuzz_child import BASE, KINDS, empty, read_case
from fuzz_mutate import damaged

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
JUDGES = {  # by reader: the files of `scripts` that make its cases and judge, but for those that all share
    "ts": ("fuzz_series.py",),
    "arff": ("fuzz_series.py",),
    "csv": ("fuzz_series.py",),
    "events": ("fuzz_events.py",),
    "parquet": ("fuzz_judges.py", "fuzz_unsigned.py"),
    "npz": ("fuzz_judges.py", "fuzz_signed.py"),
    "hdf5": ("fuzz_judges.py", "fuzz_unsigned.py"),
    "records": ("fuzz_judges.py", "fuzz_signed.py"),
    "checkpoints": ("fuzz_judges.py", "fuzz_signed.py"),
    "archives": (),
    "hashed": ("fuzz_judges.py", "fuzz_unsigned.py"),
}
PROMISE = (
    "A damaged file is refused or read as what it says; no reader crashes, hangs or takes memory that the file lacks"
)
LONG = 100_000
BATCH = 20_000  # cases a child reads before another takes over


def main(arguments: list[str]) -> int:
    """Run what is asked for; the exit code is 1 where a reader failed."""
    options = _options(arguments)
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
    return parser.parse_args(arguments)


def _run(names: list[str], count: int, state: Path, fresh: bool) -> dict[str, dict[str, Any]]:
    """All cases of some readers, read by children; what there is so far lies in `state`."""
    memory = state / f"{'-'.join(names)}-{count}-{_fingerprint(names)}.json"
    so_far: dict[str, Any] = {"done": 0, "seconds": 0.0, "results": {name: empty() for name in names}}
    if memory.is_file() and not fresh:
        so_far = json.loads(memory.read_text())
    while so_far["done"] < count:
        first, last = so_far["done"], min(count, so_far["done"] + BATCH)
        began = time.monotonic()
        for name, result in read_batch(names, first, last).items():
            add(so_far["results"][name], result)
        so_far["done"], so_far["seconds"] = last, so_far["seconds"] + time.monotonic() - began
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.with_suffix(".tmp").write_text(json.dumps(so_far))
        memory.with_suffix(".tmp").replace(memory)
    return so_far["results"]


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


def _fingerprint(names: list[str]) -> str:
    """Of what makes, reads and judges the cases of these readers: an interrupted run of another is not gone on from."""
    judges = (part for name in names for part in ("fuzz_mutate.py", "fuzz_readers.py", *JUDGES[name]))
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
