"""Threads for compiled kernels: the very team that torch's own operators work with, or one of Python's.

Torch's threads stay awake for a while after each piece of work: they take the next one up within microseconds, where
a thread that sleeps takes some tens, and threads of ours would share the cores with them meanwhile. A team is the
address of a function as OpenMP's `GOMP_parallel`, (body, data, threads, flags): body(data) in each thread, at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_TEAM = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_forked = False
_calls = threading.local()


def worth(work: int, least: int) -> int:
    """As many threads as torch has and `work` is worth with at least `least` of it for each; one for any."""
    return max(1, min(torch.get_num_threads(), work // least))


def call(kernel: Callable[..., None], threads: int, *arguments: Any) -> None:
    """kernel(team, threads, *arguments); a Ctrl-C that came meanwhile is raised after it."""
    _calls.interrupted = False
    kernel(team(threads), threads, *arguments)
    if _calls.interrupted:
        raise KeyboardInterrupt


def team(threads: int) -> int:
    """Address of the function that runs so many threads together; 0 for one thread, which needs none."""
    if threads < 2:
        return 0
    # Torch's threads are not in a forked child, where their library would wait for them for ever.
    return _pool_address() if _forked else _torch_address() or _pool_address()


@functools.cache
def _torch_address() -> int | None:
    """`GOMP_parallel` of the OpenMP library that torch is linked to, or None where it uses another."""
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:
            # Asked of torch's library, the name is looked up in those it was linked to: another OpenMP library in
            # this process has threads of its own.
            return ctypes.cast(ctypes.CDLL(str(library)).GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None


@functools.cache
def _pool_address() -> int:
    return ctypes.cast(_pool_team, ctypes.c_void_p).value or 0


@_TEAM
def _pool_team(body: int, data: int, threads: int, _flags: int) -> None:
    """body(data) in the calling thread and in others of Python's; compiled code calls this."""
    run, futures = _BODY(body), []
    with contextlib.suppress(RuntimeError):  # at the end of the process none can be started; this one does it all
        for _ in range(threads - 1):
            futures.append(_workers(threads - 1).submit(run, data))
    run(data)
    while not all(future.done() for future in futures):
        try:
            wait(futures)
        except KeyboardInterrupt:  # `data` lies in the caller's frame, which must outlast the others' work
            _calls.interrupted = True


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
    global _lock, _pool, _pool_size, _forked
    _lock, _pool, _pool_size, _forked = threading.Lock(), None, 0, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
