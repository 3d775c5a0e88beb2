"""The sweep of one multirun: check every job first, launch all of them, list what failed at the end.

Hydra's own sweeper stops reading results at the first failure and cannot run a list that is no grid; ours
does what a benchmark needs with any of Hydra's launchers (serial, joblib, SLURM, ray).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from tasks.errors import ConfigError
from tasks.suite import records

log = logging.getLogger(__name__)

PACKAGE = "hydra_plugins"  # Hydra takes plugins from here alone


class JobSweeper(Sweeper):
    """`hydra/sweeper=jobs`: the grid of the command line, or the list of jobs in the JSON file `jobs`.

    Args:
        params: overrides of an experiment, as in Hydra's own sweeper; the command line's win.
        jobs: a file that holds a list of lists of overrides; each is one job, the command line's overrides added.
    """

    __module__ = f"{PACKAGE}.aaren"

    def __init__(self, params: Mapping[str, Any] | None = None, jobs: str | None = None) -> None:
        self.params, self.jobs = dict(params or {}), jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra, self.context = config.hydra, hydra_context
        self.jobs_launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Launch every job and return the records; exits with 1 if one failed, or before all if one cannot be."""
        jobs = self._expand(arguments)
        try:
            for overrides in jobs:
                check_model(overrides, self._conf_dir())
        except ConfigError as error:
            raise SystemExit(f"error: {error}; nothing was started") from None
        log.info("%d jobs", len(jobs))
        sweep_dir = Path(str(self.hydra.sweep.dir))
        sweep_dir.mkdir(parents=True, exist_ok=True)
        returned = self.jobs_launcher.launch(jobs, initial_job_idx=0)
        failed = [
            (job, result) for job, result in zip(jobs, returned, strict=True) if result.status != JobStatus.COMPLETED
        ]
        kept = [self._keep(result) for result in returned if result.status == JobStatus.COMPLETED]
        if failed:
            log.error("%d of %d jobs failed:", len(failed), len(jobs))
            for overrides, result in failed:
                log.error("  %s\n    %s", " ".join(overrides), _cause(result))
            raise SystemExit(1)
        return kept

    def _expand(self, arguments: Sequence[str]) -> list[list[str]]:
        given = [f"{key}={value}" for key, value in self.params.items()] + list(arguments)
        last = {override.partition("=")[0]: override for override in given}
        parsed = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(list(last.values()))
        grid = [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
        if self.jobs is None:
            return grid
        listed = json.loads(Path(self.jobs).read_text(encoding="utf-8"))
        return [[*job, *extra] for job in listed for extra in grid]

    def _conf_dir(self) -> Path:
        return next(Path(source.path) for source in self.hydra.runtime.config_sources if source.provider == "main")

    def _keep(self, result: JobReturn) -> Any:
        """The job's record, written here too if the worker's disk is not ours."""
        record = result.return_value
        if isinstance(record, Mapping):
            runs = Path(str(result.cfg.runs_dir)) if result.cfg is not None else Path("results/runs")
            path = runs / str(record["run_id"]) / records.RECORD_NAME
            if not path.exists():
                records.write(record, runs)
        return record


def register(plugins: Plugins) -> None:
    """Make `JobSweeper` known to Hydra under the one package whose plugins it takes."""
    sys.modules[f"{PACKAGE}.aaren"] = sys.modules[__name__]
    plugins.register(JobSweeper)


def check_model(overrides: Sequence[str], conf: Path) -> None:
    """Refuse a trivial model that the dataset's family lacks, before a sweep starts.

    Raises:
        ConfigError: names the model, the family, and the models it has.
    """
    chosen = dict(part.split("=", 1) for part in overrides if "=" in part)
    dataset, model = chosen.get("dataset", "ETTh1"), chosen.get("model", "aaren")
    if not (conf / "dataset" / f"{dataset}.yaml").exists() or not (conf / "model" / f"{model}.yaml").exists():
        return  # Hydra names it with the list of choices
    if _yaml(conf / "model" / f"{model}.yaml").get("attention") is not None:
        return
    own = _yaml(conf / "dataset" / f"{dataset}.yaml")
    family = next(value for part in own["defaults"] if isinstance(part, dict) for value in part.values())
    # A set of a known process has rules that its family at large has not.
    has = own.get("task", {}).get("trivial_models") or _yaml(conf / "task" / f"{family}.yaml")["trivial_models"]
    if model not in has:
        raise ConfigError(
            "model", model, f"dataset={dataset} is {family}; its models without training are {', '.join(has)}"
        )


def _yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _cause(result: JobReturn) -> str:
    error = result._return_value
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
