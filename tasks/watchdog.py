"""The process beside a job with a time limit: kills the job when its time is up and it does not hear, and says so.

Run as `python -m tasks.watchdog <pid> <seconds> <limit> <runs folder> <run id>`; its standard input is a pipe from
the job, which closes when the job is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

BURIAL = 60.0  # seconds in which the killed job's lock must come free


def watch(pid: int, seconds: float, limit: str, runs_dir: Path, run_id: str) -> None:
    """Wait for the job's end or the time's; then kill the job and leave its record."""
    # A descriptor of the process, where there is one (Linux): a number may be given to another process meanwhile.
    process = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    ended, _, _ = select.select([sys.stdin, *([process] if process is not None else [])], [], [], seconds)
    if ended:
        return
    from tasks.suite.locks import RunBusy, bury_run, note_end
    from tasks.timelimit import TRACE_NAME, TimeLimitReached

    path = runs_dir / run_id / TRACE_NAME
    trace = path.read_text(errors="replace") if path.exists() else None
    cause = f"it did not end within time_limit={limit} s and was killed: it hung in code that heeds no signal"
    # Before the kill: the job's parent may bury it first.
    note_end(runs_dir, run_id, TimeLimitReached.__name__, cause, trace)
    if process is not None:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
    path.unlink(missing_ok=True)
    deadline = time.monotonic() + BURIAL
    while time.monotonic() < deadline:
        with contextlib.suppress(RunBusy):  # the kernel takes the lock back a moment after the kill
            bury_run(runs_dir, run_id, cause, "SIGKILL")
            return
        time.sleep(0.05)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5])
