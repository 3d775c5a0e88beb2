"""A time limit for one job that holds whatever hangs: Python code, a lock, or C code that never comes back.

An alarm raises in the job itself, which then fails like any other and lets the sweep go on.  Code that never returns
to Python does not hear it; GRACE seconds later a second process (`tasks.watchdog`) records the job and kills it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

GRACE = 30.0  # seconds from the alarm to the kill: a busy machine may take that long to leave the job
AGAIN = 5.0  # seconds to the next alarm, should something swallow the first
TRACE_NAME = "hang.txt"


class TimeLimitReached(RuntimeError):
    """The job did not end within its `time_limit`."""


class _Expired(BaseException):
    """No `Exception`: what a job catches and survives must not eat the alarm."""


@contextlib.contextmanager
def time_limit(seconds: int | float | None, runs_dir: Path, run_id: str) -> Iterator[None]:
    """End what runs inside after `seconds` (None: never).

    Clocks are monotonic.  In a thread other than the main one there is no alarm, only the watchdog.

    Raises:
        TimeLimitReached: on leaving, when the alarm has ended the block.
    """
    if seconds is None:
        yield
        return
    watchdog = _start_watchdog(seconds, runs_dir, run_id)
    trace = (Path(runs_dir) / run_id / TRACE_NAME).open("wb")
    # Python's own watchdog thread needs neither the interpreter nor its lock: where a hang was is on disk before the
    # kill.
    faulthandler.dump_traceback_later(seconds + GRACE / 2, file=trace)
    try:
        with _alarm(seconds) if threading.current_thread() is threading.main_thread() else contextlib.nullcontext():
            yield
    except _Expired as error:
        message = f"it did not end within time_limit={seconds:g} s; raise the limit, or see what it was waiting for"
        raise TimeLimitReached(message) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        trace.close()
        if watchdog is not None:
            watchdog.kill()
            watchdog.communicate()
        Path(trace.name).unlink(missing_ok=True)


@contextlib.contextmanager
def _alarm(seconds: int | float) -> Iterator[None]:
    """Raise _Expired in the main thread after `seconds`; an alarm that somebody else had set goes on afterwards."""

    def expired(*_: Any) -> None:
        raise _Expired

    started = time.monotonic()
    before = signal.signal(signal.SIGALRM, expired)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - started)), interval)


def _start_watchdog(seconds: int | float, runs_dir: Path, run_id: str) -> subprocess.Popen[bytes] | None:
    command = [sys.executable, "-P", "-m", "tasks.watchdog", str(os.getpid()), str(seconds + GRACE)]
    command += [f"{seconds:g}", str(Path(runs_dir).absolute()), run_id]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        log.warning("no watchdog (%s): a hang in C code would not be ended", error)
        return None
