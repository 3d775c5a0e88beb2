"""Work shared among as many threads as torch uses, for kernels that release the interpreter lock.

A pool of our own instead of numba's: its default layer must not be entered by two Python threads at once, and its
OpenMP layer does not survive a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def run_together(tasks: Sequence[Callable[[], None]]) -> None:
    """Run every task, the first in the calling thread; the first error is raised once all have ended."""
    if not tasks:
        return
    futures = [_workers(len(tasks) - 1).submit(task) for task in tasks[1:]]
    try:
        tasks[0]()
    finally:
        errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error


def even_parts(count: int, parts: int) -> list[tuple[int, int]]:
    """(first, stop) of at most `parts` contiguous, nearly equal parts of range(count), none of them empty."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def _workers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < count:
            # The smaller pool, if any, ends its work and then its threads: nobody submits to it again.
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _pool_size = ThreadPoolExecutor(count, thread_name_prefix="aaren"), count
        return _pool


def _forget_pool() -> None:
    """A forked child has the pool but not its threads (nor, perhaps, a free lock): start anew."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
