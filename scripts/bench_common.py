"""What every part of the benchmark shares: clocks, spreads, and CSV files that say where they were measured.

Times are CPU time of the calling thread where one thread works, wall time where several do. Rivals are taken in turn
in one process; read the ratios. Freed memory is kept by the process, so that no rival pays for fresh pages.
"""

from __future__ import annotations

import csv
import ctypes
import hashlib
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from machine import described

from tasks.suite.atomic import write_atomic

ROOT = Path(__file__).resolve().parent.parent
EFFICIENCY = ROOT / "results" / "efficiency"
SLOW_MS, VERY_SLOW_MS, FEW = 1000, 5000, 3  # a call slower than the first is timed FEW times
QUICK_MS, WARM_S = 100, 0.01  # a call quicker than the first has untimed ones before it, for so many seconds
Row = dict[str, Any]


class BenchError(Exception):
    """A measured file that is missing or cannot be used; the message says which and what to run."""


def warm(function: Callable[[], Any]) -> None:
    """Call it, at least once, for `WARM_S`."""
    stop = time.perf_counter() + WARM_S
    function()
    while time.perf_counter() < stop:
        function()


def timed(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    threads: int | Mapping[str, int] = 1,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of each, taken in turn so that a busy moment of the machine meets them all.

    The quick ones get untimed calls first, for `WARM_S`: what the rival before left in the caches is not theirs, nor
    is the sleep of a second core, which takes some calls to come up to speed.

    Args:
        functions: name -> what is timed.
        repeats: how often; `FEW` where a call takes over a second.
        threads: of torch, for all or by name.
        clock: default CPU time for one thread, wall time for several.
    """
    import torch

    before = torch.get_num_threads()
    counts = {name: threads if isinstance(threads, int) else threads[name] for name in functions}

    def once(name: str) -> float:
        now = clock or (time.thread_time if counts[name] == 1 else time.perf_counter)
        start = now()
        functions[name]()
        return (now() - start) * 1e3

    taken: dict[str, list[float]] = {}
    try:
        first = {}
        for name in functions:
            torch.set_num_threads(counts[name])
            first[name] = once(name)  # compiles, fills caches, and tells how often the slow ones can be afforded
            taken[name] = [first[name]] if first[name] > VERY_SLOW_MS else []
        for _ in range(repeats):
            for name, times in taken.items():
                if first[name] > SLOW_MS and len(times) >= FEW:
                    continue
                torch.set_num_threads(counts[name])
                if first[name] < QUICK_MS:
                    warm(functions[name])
                times.append(once(name))
    finally:
        torch.set_num_threads(before)
    return taken


def spread(times: list[float], unit: str = "ms") -> Row:
    """Median, quartiles, least and number of some times, as columns."""
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    values = {unit: statistics.median(times), f"{unit}_q1": low, f"{unit}_q3": high, f"{unit}_min": min(times)}
    return values | {"runs": len(times)}


def prepare(threads: int = 1) -> None:
    """Fix threads and seed; let the C library keep freed memory (glibc; elsewhere page faults stay in the times)."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if sys.platform == "linux":
        keep = getattr(ctypes.CDLL(None), "mallopt", None)
        if keep is not None:
            keep(-4, 0)  # M_MMAP_MAX: large blocks from the heap too
            keep(-1, -1)  # M_TRIM_THRESHOLD: and the heap never shrinks


def release() -> None:
    """Hand freed memory back after all (glibc): what is free should be seen before the next large state is made."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def source_hash(folders: Iterable[Path] = (ROOT / "aaren",)) -> str:
    """Short hash of the library and of the measuring code: what a measurement depends on, drawing left out."""
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    names = ("common", "operator", "training", "figure5", "streams")
    files += [path for name in names if (path := ROOT / "scripts" / f"bench_{name}.py").exists()]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def report(name: str, rows: list[Row], out: Path | None, settings: str = "") -> None:
    """A table on the terminal; with `out`, `<name>.csv`, whose every row says where and with what it was measured.

    Raises:
        WriteError: the folder cannot be written.
    """
    show(name, rows)
    if out is not None:
        where = described() | {"source": source_hash(), "settings": settings}
        print(f"written: {write_rows(out / f'{name}.csv', [row | where for row in rows])}")


def show(name: str, rows: list[Row]) -> None:
    """The rows as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*_columns(rows), title=name)
    for row in rows:
        cells = [row.get(column, "") for column in _columns(rows)]
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def write_rows(path: Path, rows: list[Row]) -> Path:
    """A CSV, whole or not at all; times to five digits, which is more than they hold."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
    write_atomic(path, text.getvalue().encode())
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a measured CSV.

    Raises:
        BenchError: no such file, not a table, or no rows in it.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"{path}: cannot be read ({error}); measure it with scripts/bench.py") from error
    if not rows:
        raise BenchError(f"{path}: no rows; delete it and measure again with scripts/bench.py")
    return rows


def is_current(path: Path, settings: str) -> bool:
    """Whether a CSV was measured here, with this code and these settings, so that it need not be measured again."""
    try:
        row = read_rows(path)[0]
    except BenchError:
        return False
    here = described() | {"source": source_hash(), "settings": settings}
    same = ("cpu", "cores", "python", "torch", "numba", "numpy", "source", "settings")
    return all(row.get(column) == here[column] for column in same)


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))
