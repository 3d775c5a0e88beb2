"""One job: (dataset, model, seed, profile) in, one atomic record out.

Whatever ends a job is in its record: done, failed (with the step and the cause) or unavailable (with the
remedy).  A job that was interrupted goes on from its last checkpoint when it is run again.
"""

from __future__ import annotations

import importlib
import logging
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tasks.data import DatasetUnavailable, Resolved, resolve, verified
from tasks.errors import ConfigError
from tasks.jobconfig import prepare
from tasks.plugins import import_plugin
from tasks.progress import progress_callbacks
from tasks.suite import records
from tasks.suite.identity import run_id as make_run_id
from tasks.suite.identity import semantic_config
from tasks.suite.locks import Heartbeat, RunLock
from tasks.task import Task, TaskData
from tasks.timelimit import TimeLimitReached, time_limit
from tasks.tracking import summarise, tracked
from tasks.training import plan_budget, train_and_score

log = logging.getLogger(__name__)


def run_job(cfg: Mapping[str, Any], *, command: str | None = None) -> dict[str, Any]:
    """Run one job to its record; a job that is done already returns the record it has.

    Args:
        cfg: the composed config as a plain dict.
        command: what the user typed, for the record.

    Raises:
        ConfigError: an option that cannot be used; nothing is written, there is no such job.
        RunBusy: another process is at this job.
        Anything that made the job fail, after its record was written.
    """
    job = prepare(cfg)
    runs = Path(job["runs_dir"])
    torch.set_num_threads(int(job["threads"]))
    if job["model"].get("plugin"):
        import_plugin(job["model"]["plugin"])
    _check_attention(job)
    try:
        data_source = verified(resolve(job["dataset"]["name"], job["dataset"]["variant"]))
    except DatasetUnavailable as error:
        return _unavailable(job, runs, error, command)
    name = make_run_id(job, data_source.label, data_source.sha256)
    with RunLock(runs, name):
        path = runs / name / records.RECORD_NAME
        if job["force"]:
            shutil.rmtree(runs / name / "checkpoints", ignore_errors=True)
        elif path.exists():
            record = records.read(path)
            if record["status"] == "done":
                log.info("%s is done already (force=true runs it again)", name)
                return record
        return _run(job, data_source, runs, name, command)


def load(job: Mapping[str, Any], source: Resolved) -> tuple[TaskData, Task]:
    """A job's data and its task model, freshly initialised from the job's seed."""
    family = importlib.import_module(f"tasks.{job['task']['family']}")
    data = family.load_data(job, source)
    lightning.seed_everything(job["seed"], verbose=False)
    return data, family.build_task(job, data)


def _run(job: dict[str, Any], source: Resolved, runs: Path, name: str, command: str | None) -> dict[str, Any]:
    started, wall, cpu = datetime.now(UTC), time.monotonic(), time.process_time()
    _reset_peak_memory()

    def compose(status: str, **facts: Any) -> dict[str, Any]:
        return records.compose(
            job,
            dataset=source.dataset,
            label=source.label,
            variant=source.variant,
            sha256=source.sha256,
            source=source.source,
            status=status,
            command=command,
            started=started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_seconds=round(time.monotonic() - wall, 3),
            cpu_seconds=round(time.process_time() - cpu, 3),
            peak_memory_bytes=_peak_memory(),
            **facts,
        )

    heartbeat = Heartbeat(runs, compose("failed", reason="did not finish"))
    task: Task | None = None
    try:
        with time_limit(job.get("time_limit"), runs, name):
            data, task = load(job, source)
            learned = job["model"]["attention"] is not None
            budget = plan_budget(job["task"]["budget"], data.steps_per_epoch) if learned else None
            callbacks, bar = progress_callbacks(job["progress"], name, heartbeat)
            config = {**semantic_config(job), "seed": job["seed"], "fold": job["fold"]}
            tracking = tracked(job["logger"], run_id=name, cfg=config, label=source.label, folder=runs.parent / "wandb")
            with tracking as logger:
                result = train_and_score(
                    task,
                    data,
                    budget=budget,
                    folder=runs / name / "checkpoints",
                    device=job["device"],
                    devices=job.get("devices", 1),
                    callbacks=callbacks,
                    logger=logger,
                    progress_bar=bar,
                )
                artefacts = {"history": task.history, **task.artefacts(data)}
                record = compose("done", artefacts=artefacts, **result)
                summarise(logger, record)
    except BaseException as error:
        # KeyboardInterrupt and SystemExit too: whatever ends the job, its record says so before it goes up.
        record = compose("failed", **_cause(error, task))
        records.write(record, runs)
        heartbeat.stop()
        vars(error)["record"] = record  # a sweep's driver may have another disk
        if isinstance(error, SIGTERMException):  # Lightning's, whose exit code would be 0
            raise SystemExit(128 + signal.SIGTERM) from error
        raise
    records.write(record, runs)
    heartbeat.stop()
    (runs / name / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
    if record["status"] != "done":
        error = RuntimeError(f"{name}: {record['reason']}")
        vars(error)["record"] = record
        raise error
    log.info("%s done: %s", name, _headline(record))
    return record


def _cause(error: BaseException, task: Task | None) -> dict[str, Any]:
    """The record's reason and error fields for whatever ended the job."""
    trained = task is not None and task._fabric is None and task._trainer is not None
    step = int(task.global_step) if task is not None and trained else None
    batch = task.where[1] if task is not None else None
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    if interrupted:
        reason = f"interrupted at step {step}; run it again to resume"
    elif isinstance(error, TimeLimitReached):
        reason = f"at {task.where[0] if task is not None else 'the data'}, step {step}: {error}"
    else:
        reason = f"{type(error).__name__}: {error}"
    # Of a time limit, what the alarm interrupted is the news.
    shown = error.__cause__ if isinstance(error, TimeLimitReached) and error.__cause__ is not None else error
    text = "".join(traceback.format_exception(shown, limit=-6)) if not interrupted else None
    return {
        "reason": reason,
        "fix": getattr(error, "fix", None),
        "error": {
            "type": type(error).__name__, "message": str(error), "traceback": text, "step": step, "batch": batch
        },
    }  # fmt: skip


def _unavailable(job: dict[str, Any], runs: Path, error: DatasetUnavailable, command: str | None) -> dict[str, Any]:
    record = records.compose(
        job,
        dataset=job["dataset"]["name"],
        label=job["dataset"]["name"],
        variant=None,
        status="unavailable",
        reason=error.reason,
        fix=error.fix,
        command=command,
    )
    with RunLock(runs, record["run_id"]):
        records.write(record, runs)
    log.warning("%s is unavailable: %s. To get it: %s", job["dataset"]["name"], error.reason, error.fix)
    return record


def _check_attention(job: Mapping[str, Any]) -> None:
    from aaren import attention_class

    model, sizes = job["model"], job["task"]["model"]
    if model["attention"] is None:
        return
    try:
        attention_class(model["attention"])
    except ValueError as error:
        raise ConfigError("model.attention", model["attention"], str(error)) from error
    if sizes["n_heads"] < 1 or sizes["d_model"] % sizes["n_heads"]:
        raise ConfigError(
            "task.model.n_heads", sizes["n_heads"], f"must divide task.model.d_model={sizes['d_model']} without rest"
        )


def _headline(record: Mapping[str, Any]) -> str:
    return ", ".join(f"test {name} {measure['value']:.4g}" for name, measure in record["metrics"]["test"].items())


def _reset_peak_memory() -> None:
    """Let the kernel count this job's peak anew (Linux); elsewhere the peak is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        log.debug("peak memory cannot be reset here; records give the peak of the whole process")


def _peak_memory() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
