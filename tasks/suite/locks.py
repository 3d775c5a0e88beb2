"""One process a run, and what a dead one leaves behind.

`RunLock` is an operating-system lock: it goes with its process, however that ended, so a stale file is no obstacle.
`Heartbeat` keeps `running.json`, from which a record can be made for a job that was killed without a word.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from tasks.suite.atomic import WriteError, write_atomic
from tasks.suite.records import RECORD_NAME, write
from tasks.suite.sanitise import scrub

LOCK_NAME = ".lock"
OWNER_NAME = ".owner.json"
RUNNING_NAME = "running.json"
END_NAME = "end.json"
# Set by `make reproduce` to its process id, for the jobs it starts: one whose reproducer is gone stops by itself.
REPRODUCER = "AAREN_REPRODUCER"


class RunBusy(RuntimeError):
    """Another process runs this job; the message names it."""


class RunLock:
    """`with RunLock(runs_dir, run_id):` holds the run's folder for this process; nobody waits.

    Raises (on entering):
        RunBusy: another living process, or another lock in this one, holds it.
        WriteError: the results folder cannot be written.
    """

    def __init__(self, runs_dir: Path, run_id: str) -> None:
        self.folder = Path(runs_dir) / run_id
        self._lock = FileLock(self.folder / LOCK_NAME, thread_local=False)

    def __enter__(self) -> RunLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise RunBusy(
                f"{self.folder.name} is being run by {self._owner()}; wait for it, or end that process"
            ) from error
        except OSError as error:
            raise WriteError(self.folder / LOCK_NAME, error) from error
        try:
            owner = {"pid": os.getpid(), "host": socket.gethostname()}
            write_atomic(self.folder / OWNER_NAME, json.dumps(owner).encode(), durable=False)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(OSError):  # a disk that has become read-only, or gone: that is said elsewhere
                (self.folder / OWNER_NAME).unlink(missing_ok=True)
        finally:
            self._lock.release()

    def _owner(self) -> str:
        owner = _read_json(self.folder / OWNER_NAME)
        if owner is None:  # it has the lock but has not signed yet
            return "another process"
        return f"process {owner.get('pid')} on {owner.get('host')}"


class Heartbeat:
    """`running.json` in the run's folder: how far the job is, and the record it leaves should it be killed.

    Args:
        record: from `records.compose(..., status="failed", reason=...)`; what `bury` will publish.
        every: seconds between two writes; a beat in between costs one look at the clock.
    """

    def __init__(self, runs_dir: Path, record: Mapping[str, Any], every: float | int = 1.0) -> None:
        self._path = Path(runs_dir) / str(record["run_id"]) / RUNNING_NAME
        self._record, self._every = dict(record), every
        self._before = content_digest(self._path.with_name(RECORD_NAME))
        self._next, self._total = 0.0, 0
        self._path.with_name(END_NAME).unlink(missing_ok=True)
        self.beat(0)

    def beat(self, step: int, total: int | None = None) -> None:
        """Say that the job has done `step` of `total` optimiser steps."""
        self._total = total if total is not None else self._total
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        state = {"pid": os.getpid(), "step": step, "total": self._total, "record": self._record}
        state["before"] = self._before  # the record of an earlier attempt, to be told from one that this job leaves
        write_atomic(self._path, json.dumps(state, allow_nan=False).encode(), durable=False)

    def stop(self) -> None:
        """The job has left its record: nothing is running any more."""
        self._path.unlink(missing_ok=True)


class Progress(NamedTuple):
    """A job that is running, or that died: its run id, steps done and planned, and whether its process lives."""

    run_id: str
    step: int
    total: int
    alive: bool


def progress(runs_dir: Path) -> list[Progress]:
    """Every job with a `running.json`, by run id; `alive` is whether somebody holds its lock."""
    jobs = []
    for path in sorted(Path(runs_dir).glob(f"*/{RUNNING_NAME}")):
        state = _read_json(path)
        if state is not None:
            alive = _is_held(path.parent)
            jobs.append(Progress(path.parent.name, int(state["step"]), int(state["total"] or 0), alive))
    return jobs


def bury(runs_dir: Path, signal: str | None = None) -> list[str]:
    """Record every dead job (a heartbeat, nobody holding the lock, no record since) as failed; returns their run ids.

    Args:
        signal: what killed the worker, if known ("SIGKILL").
    """
    cause = f"killed by {signal}" if signal else "its process died"
    buried = []
    for job in progress(runs_dir):
        with contextlib.suppress(RunBusy):  # alive, or somebody has taken it up again meanwhile
            if not job.alive and bury_run(runs_dir, job.run_id, cause, signal):
                buried.append(job.run_id)
    return buried


def bury_run(runs_dir: Path, run_id: str, cause: str, signal: str | None = None) -> bool:
    """Record one dead job as failed after the step of its last heartbeat; False if it has left a record itself.

    Args:
        cause: what ended it, in words, unless `note_end` has said.
        signal: the name of the signal that ended it, if known.

    Raises:
        RunBusy: it is alive.
    """
    folder = Path(runs_dir) / run_id
    with RunLock(runs_dir, run_id):
        state = _read_json(folder / RUNNING_NAME)
        if state is None:
            return False
        died = content_digest(folder / RECORD_NAME) == state.get("before")
        if died:
            record, step = dict(state["record"]), int(state["step"])
            noted = _read_json(folder / END_NAME) or {"type": "Killed", "message": cause, "traceback": None}
            record["status"] = "failed"
            record["reason"] = f"{noted['message']} after step {step} of {int(state['total'] or 0) or '?'}"
            record["error"] = {**noted, "step": step, "signal": signal}
            write(record, runs_dir)
        for name in (RUNNING_NAME, END_NAME):
            (folder / name).unlink(missing_ok=True)
    return died


def note_end(runs_dir: Path, run_id: str, kind: str, message: str, traceback: str | None) -> None:
    """Leave word of why a job is about to be killed, for whoever buries it: the error's type, message, traceback."""
    note = {"type": kind, "message": message, "traceback": scrub(traceback)}
    write_atomic(Path(runs_dir) / run_id / END_NAME, json.dumps(note).encode(), durable=False)


def content_digest(path: Path) -> str | None:
    """Which content a file has, None for no file: unlike its time, it does not depend on how clocks are set."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _is_held(folder: Path) -> bool:
    probe = FileLock(folder / LOCK_NAME, thread_local=False)
    try:
        probe.acquire(blocking=False)
    except Timeout:
        return True
    probe.release()
    return False


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
