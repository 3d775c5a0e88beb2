"""What a sweep would do: which jobs are done, which are still to run, and about how long that takes.

Pure bookkeeping over composed configs and records: nothing is read from disk here, so 380 jobs take milliseconds.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.suite.identity import run_id

STATUSES = ("done", "failed", "unavailable", "missing")


@dataclass(frozen=True)
class Request:
    """One job somebody wants: its config, how to launch it, and what its data resolved to.

    Attributes:
        cfg: the composed config as a plain dict, `horizon` already filled in by the family's default.
        overrides: what `scripts/train.py` must be given to compose the same config.
        dataset: the command-line name.
        label: how the dataset is printed; the dataset's name when it is unavailable.
        sha256: role -> hash of the source files.
        unavailable: why and how to get it, when no file was found; else None.
    """

    cfg: Mapping[str, Any]
    overrides: tuple[str, ...]
    dataset: str
    label: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    unavailable: str | None = None


@dataclass(frozen=True)
class Job:
    """A planned job. `status` is done | failed | unavailable | missing; all but done are to be (re)tried.

    `estimate_seconds` is CPU time on one thread, 0 for a job that needs no training; None when nothing is known.
    """

    overrides: tuple[str, ...]
    run_id: str
    dataset: str
    label: str
    family: str
    model: str
    seed: int
    horizon: int | None
    status: str
    estimate_seconds: float | None
    reason: str | None = None

    @property
    def to_run(self) -> bool:
        """Whether training is needed: an unavailable job only leaves a record that says so."""
        return self.status in ("failed", "missing")


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, in the order they were asked for, each run id once."""

    jobs: tuple[Job, ...]

    @property
    def todo(self) -> tuple[Job, ...]:
        """Failed and missing jobs, longest first: the last worker then finishes soonest."""
        jobs = [job for job in self.jobs if job.to_run]
        return tuple(sorted(jobs, key=lambda job: -(job.estimate_seconds or 0.0)))

    def of(self, *statuses: str) -> tuple[Job, ...]:
        """The jobs with one of these statuses."""
        return tuple(job for job in self.jobs if job.status in statuses)

    def counts(self) -> dict[str, int]:
        """status -> number of jobs, every status present."""
        return {status: len(self.of(status)) for status in STATUSES}

    def seconds(self, workers: int = 1) -> float:
        """Estimated wall time of `todo` on `workers` equal workers, one thread each, longest job first.

        A job of which nothing is known counts as the median of the others, so that it is not taken for free.
        """
        known = [job.estimate_seconds for job in self.todo if job.estimate_seconds is not None]
        typical = statistics.median(known) if known else 0.0
        load = [0.0] * max(1, workers)
        for job in self.todo:
            lightest = load.index(min(load))
            load[lightest] += typical if job.estimate_seconds is None else job.estimate_seconds
        return max(load)


def plan(
    requests: Iterable[Request],
    records: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float | int] | None = None,
    *,
    force: bool = False,
) -> Plan:
    """Hold the requested jobs against the records there are.

    Args:
        requests: the jobs wanted; two that come to one run id are one job.
        records: from `records.read_all`.
        seconds: family -> CPU seconds of a typical job of this profile, used where no record tells more.
        force: plan done jobs again.
    """
    status_of = {record["run_id"]: record for record in records}
    past = _Past(records, seconds or {})
    jobs: dict[str, Job] = {}
    for request in requests:
        cfg = request.cfg
        name = run_id(cfg, request.label, request.sha256)
        record = status_of.get(name)
        status, reason = "missing", None
        if record is not None and not (force and record["status"] == "done"):
            status, reason = record["status"], record["reason"]
        if request.unavailable is not None:
            status, reason = "unavailable", request.unavailable
        elif status == "unavailable":  # its record is older than its data
            status, reason = "missing", None
        jobs.setdefault(
            name,
            Job(
                overrides=tuple(request.overrides),
                run_id=name,
                dataset=request.dataset,
                label=request.label,
                family=cfg["task"]["family"],
                model=cfg["model"]["name"],
                seed=int(cfg["seed"]),
                horizon=cfg.get("horizon"),
                status=status,
                estimate_seconds=past.estimate(cfg, request.label),
                reason=reason,
            ),
        )
    return Plan(tuple(jobs.values()))


class _Past:
    """CPU seconds of finished jobs, looked up from the nearest kind that has any."""

    def __init__(self, records: Sequence[Mapping[str, Any]], constants: Mapping[str, float | int]) -> None:
        self._constants = constants
        samples: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        for record in records:
            if record["status"] == "done" and record["cpu_seconds"] is not None:
                trained = record["config"].get("model", {}).get("attention") is not None
                values = (record["model"], record["label"], record["horizon"])
                for key in self._keys(record["profile"], record["family"], *values, trained):
                    samples[key].append(record["cpu_seconds"])
        self._medians = {key: statistics.median(times) for key, times in samples.items()}

    def estimate(self, cfg: Mapping[str, Any], label: str) -> float | None:
        family, trained = cfg["task"]["family"], cfg["model"].get("attention") is not None
        values = (cfg["model"]["name"], label, cfg.get("horizon"))
        for key in self._keys(cfg["profile"], family, *values, trained):
            if key in self._medians:
                return float(self._medians[key])
        if not trained:
            return 0.0
        return float(self._constants[family]) if family in self._constants else None

    @staticmethod
    def _keys(
        profile: str, family: str, model: str, label: str, horizon: int | None, trained: bool
    ) -> tuple[tuple[Any, ...], ...]:
        """The same cell; then another model on it; then the same dataset at any horizon. Never another profile."""
        return (
            (profile, family, label, horizon, model),
            (profile, family, label, horizon, trained),
            (profile, family, label, trained),
        )
