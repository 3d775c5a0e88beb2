"""Killing a small sweep at random moments: what is on disk after the blow, and whether the sweep then ends the same.

The sweep prepares its data in an empty cache, trains its jobs, writes their records and builds the tables.  It runs in
a forked process.  A blow falls in one of its stages, either at a file operation (just before it happens) or at a
moment in time.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from faults_common import smoke_job

STAGES = ("preparation", "training", "checkpointing", "record", "tables")
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "tempfile.mkstemp")
Config = Mapping[str, Any]


class Blow(NamedTuple):
    """Where a sweep is hit: in the `turn`-th time (from 0) that it comes to `stage`, `moment` (0 to 1) of the way."""

    stage: str
    turn: int
    moment: float
    signal: str  # SIGKILL or SIGTERM
    by: str  # "files" or "time"


class Stage(NamedTuple):
    """What one time of a stage took: seconds, and file operations in the sweep's folders."""

    stage: str
    seconds: float
    files: int


def sweep(jobs: Sequence[Config], home: Path) -> None:
    """Run the jobs one after another with everything they leave in `home`, then build the tables."""
    from tasks import job
    from tasks.suite.rebuild import rebuild

    for cfg in jobs:
        job.run_job({**cfg, "runs_dir": str(home / "runs")}, command="python scripts/train.py")
    rebuild([home / "runs"], home / "tables", profile="smoke")


def warm(home: Path) -> None:
    """Compile and import here, once, what every victim needs: it is forked. On another dataset than those it takes."""
    before = os.environ.get("AAREN_CACHE")
    os.environ["AAREN_CACHE"] = str(home / "cache")
    try:
        few = ("dataset=known/poisson", "task.data.n_sequences=60", "task.budget.max_steps=2")
        sweep([smoke_job(*few, f"model={model}") for model in ("aaren", "transformer")], home)
    finally:
        os.environ.pop("AAREN_CACHE")
        os.environ |= {"AAREN_CACHE": before} if before is not None else {}


def run(jobs: Sequence[Config], home: Path, blow: Blow | None = None, known: Sequence[Stage] = ()) -> int:
    """The sweep in a process of its own, hit by `blow`; `known`, of an undisturbed run, places it. The exit code.

    The stages gone through are in `<home>.stages`, one a line.
    """
    home.mkdir(parents=True, exist_ok=True)
    turns = [stage for stage in known if blow is not None and stage.stage == blow.stage]
    expected = turns[min(blow.turn, len(turns) - 1)] if blow is not None and turns else Stage("", 0.0, 1)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_victim, args=(jobs, home, blow, expected, theirs))
    process.start()
    theirs.close()
    try:
        if ours.recv() == "here" and blow is not None and process.pid is not None:
            time.sleep(blow.moment * expected.seconds)
            if process.is_alive():
                os.kill(process.pid, signal.Signals[blow.signal])
    except EOFError:  # it ended, or hit itself at a file operation
        pass
    process.join()
    return process.exitcode or 0


def stages(home: Path) -> list[Stage]:
    """What the last run in `home` went through to the end."""
    return [Stage(*json.loads(line)) for line in home.with_suffix(".stages").read_text().splitlines()]


def damaged(home: Path) -> list[str]:
    """The files in `home` that are neither whole nor a temporary leftover."""
    checks: dict[str, Callable[[Path], Any]] = {
        "record.json": _record,
        ".json": lambda path: json.loads(path.read_bytes()),
        ".ckpt": _checkpoint,
        ".npz": _arrays,
        ".hdf5": _hdf5,
    }
    bad = []
    for path in sorted(home.rglob("*")):
        check = checks.get(path.name) or checks.get(path.suffix)
        if not path.is_file() or path.name.endswith(".tmp") or check is None:
            continue
        try:
            check(path)
        except Exception as error:  # whatever a reader makes of a damaged file
            bad.append(f"{path.relative_to(home)}: {type(error).__name__}: {error}")
    return bad


def leftovers(home: Path) -> int:
    """Temporary files of killed writers."""
    return sum(path.name.endswith(".tmp") for path in home.rglob("*"))


def outcomes(home: Path) -> dict[str, str]:
    """Run id -> metrics, selection and weights' hash of every record, and the digest of every table's text."""
    from tasks.suite import records

    found = records.read_all(home / "runs")
    assert not found.problems, found.problems
    results = {r["run_id"]: json.dumps(records.outcome(r), sort_keys=True) for r in found.records}
    tables = sorted(path for path in (home / "tables").rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
    return results | {str(p.relative_to(home)): hashlib.sha256(p.read_bytes()).hexdigest() for p in tables}


def finished(home: Path) -> dict[str, tuple[int, int]]:
    """Run id -> which file (inode, time of writing in ns) its record is, for the jobs that are done."""
    from tasks.suite import records

    done = [r["run_id"] for r in records.read_all(home / "runs").records if r["status"] == "done"]
    stats = {run: (home / "runs" / run / records.RECORD_NAME).stat() for run in done}
    return {run: (stat.st_ino, stat.st_mtime_ns) for run, stat in stats.items()}


def _victim(jobs: Sequence[Config], home: Path, blow: Blow | None, expected: Stage, pipe: Any) -> None:
    os.environ |= {"AAREN_CACHE": str(home / "cache"), "AAREN_DATA": str(home / "data")}
    with home.with_suffix(".stages").open("w", buffering=1) as log:
        gate = _Gate(home, blow, expected, pipe, log)
        gate.install()
        sweep(jobs, home)


class _Gate:
    """In the victim: follows the stages, counts file operations, and hits at the one that is meant."""

    def __init__(self, home: Path, blow: Blow | None, expected: Stage, pipe: Any, log: Any) -> None:
        self.home, self.blow, self.pipe, self.log = str(home), blow, pipe, log
        self.left = -1  # file operations until the blow
        if blow is not None:
            self.at = int(blow.moment * max(1, expected.files))
        self.turns: dict[str, int] = dict.fromkeys(STAGES, 0)
        self.files = 0

    def install(self) -> None:
        """Put a gate before each stage. The process is ours alone: nothing is ever put back."""
        import tasks.suite.rebuild as tables
        from tasks import job
        from tasks.checkpoint_io import AtomicCheckpointIO
        from tasks.suite import records
        from tasks.task import Task

        sys.addaudithook(self._count)
        places = (
            (job, "load", "preparation"),
            (Task, "training_step", "training"),
            (AtomicCheckpointIO, "save_checkpoint", "checkpointing"),
            (records, "write", "record"),
            (tables, "rebuild", "tables"),
        )
        for owner, name, stage in places:
            setattr(owner, name, self._gated(stage, getattr(owner, name)))

    def _gated(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*args: Any, **options: Any) -> Any:
            before, started = self.files, time.monotonic()
            self._enter(stage)
            result = function(*args, **options)
            if stage == "preparation":
                self.left = -1  # the first step's files are not the preparation's
            self.log.write(json.dumps([stage, time.monotonic() - started, self.files - before]) + "\n")
            return result

        return gated

    def _enter(self, stage: str) -> None:
        turn, self.turns[stage] = self.turns[stage], self.turns[stage] + 1
        if self.blow is None or (stage, turn) != (self.blow.stage, self.blow.turn):
            return
        if self.blow.by == "time":
            self.pipe.send("here")
        elif self.at == 0 or stage == "training":  # a step touches no file: the blow falls between two
            os.kill(os.getpid(), signal.Signals[self.blow.signal])
        else:
            self.left = self.at

    def _count(self, event: str, arguments: tuple) -> None:
        if event not in FILE_EVENTS or not any(str(part).startswith(self.home) for part in arguments):
            return
        self.files += 1
        if self.left > 0:
            self.left -= 1
            if self.left == 0 and self.blow is not None:
                os.kill(os.getpid(), signal.Signals[self.blow.signal])


def _record(path: Path) -> None:
    from tasks.suite import records

    records.read(path)


def _checkpoint(path: Path) -> None:
    import torch

    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, "a checksum does not fit"
    torch.load(path, weights_only=True, map_location="cpu")


def _arrays(path: Path) -> None:
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            stored[name]


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path) as file:
        file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
