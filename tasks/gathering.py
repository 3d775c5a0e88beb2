"""Records between a sweep's driver and its workers: which jobs are done here already, and what came back from afar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.data import DatasetError, Resolved, resolve, verified
from tasks.errors import ConfigError
from tasks.jobconfig import prepare
from tasks.suite import records
from tasks.suite.identity import IdentityError, run_id, semantic_config
from tasks.suite.locks import RunBusy, RunLock, content_digest

log = logging.getLogger(__name__)


class Finished:
    """Looks jobs up among the records of a folder, so that a resumed sweep launches none twice.

    Made when the sweep begins: the records there are then are the old ones. They are told from new ones by content,
    since file times are coarse, can go back and differ between machines; a job with `force=true` counts as done only
    by a new one.

    Args:
        runs: the results folder.
        compose: from a job's overrides to its config as a plain dict.
    """

    def __init__(self, runs: Path, compose: Callable[[Sequence[str]], dict[str, Any]]) -> None:
        self.runs = runs
        self._compose = compose
        self._old = {path: content_digest(path) for path in runs.glob(f"*/{records.RECORD_NAME}")}
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}
        self._sources: dict[tuple[str, str], Resolved | None] = {}
        self._all: list[dict[str, Any]] | None = None

    def of(self, jobs: Sequence[Sequence[str]]) -> list[dict[str, Any] | None]:
        """The done record of each job, or None."""
        if next(self.runs.glob(f"*/{records.RECORD_NAME}"), None) is None:
            return [None] * len(jobs)
        return [self._record(job) for job in jobs]

    def _record(self, overrides: Sequence[str]) -> dict[str, Any] | None:
        try:
            job = prepare(self._config(overrides))
            source = self._source(job["dataset"]["name"], job["dataset"]["variant"])
            if source is None:
                return None if job["force"] else self._alike(job)
            path = self.runs / run_id(job, source.label, source.sha256) / records.RECORD_NAME
            if not path.exists() or (job["force"] and self._is_old(path)):
                return None
            record = records.read(path)
        except (ConfigError, IdentityError, records.RecordError):
            return None  # the job will say what is wrong
        return record if record["status"] == "done" else None

    def _is_old(self, path: Path) -> bool:
        """Whether the record there is the one of when the sweep began."""
        return path in self._old and content_digest(path) == self._old[path]

    def _config(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The composed config; seeds share one, since composing is what takes time."""
        seeds = [part.partition("=")[2] for part in overrides if part.startswith("seed=")]
        rest = tuple(part for part in overrides if not part.startswith("seed="))
        if rest not in self._configs:
            self._configs[rest] = self._compose(rest)
        config = self._configs[rest]
        return config | {"seed": int(seeds[-1])} if seeds and seeds[-1].isdigit() else config

    def _source(self, dataset: str, variant: str) -> Resolved | None:
        if (dataset, variant) not in self._sources:
            try:
                self._sources[dataset, variant] = verified(resolve(dataset, variant))
            except DatasetError:
                self._sources[dataset, variant] = None
        return self._sources[dataset, variant]

    def _alike(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """Where the driver has no data, only the workers: the done record of the same config."""
        if self._all is None:
            self._all = records.read_all(self.runs).records
        meant = (job["dataset"]["name"], job["seed"], job.get("fold"), semantic_config(job))
        for record in self._all:
            named = (record["dataset"], record["seed"], record["fold"], record["config"])
            if record["status"] == "done" and named == meant:
                return record
        return None

    def keep(self, record: Mapping[str, Any]) -> None:
        """Write a record that a worker returned, unless the worker's disk was this one or a done one is here already.

        An old done record gives way to a done one: the job was launched all the same, so it was to be done anew.
        """
        path = self.runs / str(record["run_id"]) / records.RECORD_NAME
        try:
            held = records.read(path) if path.exists() else None
        except records.RecordError as error:
            log.warning("%s; replaced by what the worker returned", error)
            held = None
        if held is not None:
            if records.checksum(held) == records.checksum(record):
                return
            if held["status"] == "done" and not (record["status"] == "done" and self._is_old(path)):
                return
        try:
            with RunLock(self.runs, str(record["run_id"])):
                records.write(record, self.runs)
        except RunBusy as busy:
            log.warning("%s; the record that a worker returned is not kept", busy)
