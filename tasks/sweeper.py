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

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from tasks.conffiles import read_yaml
from tasks.errors import ConfigError
from tasks.gathering import Finished
from tasks.launching import WorkersDied, cause, check_installed, is_here, kind, launch, launch_everywhere, lost
from tasks.preflight import inspect, request
from tasks.suite.atomic import WriteError
from tasks.suite.locks import bury
from tasks.worker import runs_folder

log = logging.getLogger(__name__)

PACKAGE = "hydra_plugins"  # Hydra takes plugins from here alone


class JobSweeper(Sweeper):
    """`hydra/sweeper=jobs`: the grid of the command line, or the list of jobs in the JSON file `jobs`.

    Args:
        params: overrides of an experiment, as in Hydra's own sweeper; the command line's win.
        jobs: a file that holds a list of lists of overrides; each is one job, the command line's overrides added.
        preflight: check each node before the jobs (`tasks.preflight`).
        fetch: let a node download the datasets that it lacks and that can be fetched.
    """

    __module__ = f"{PACKAGE}.aaren"

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        jobs: str | None = None,
        preflight: bool = True,
        fetch: bool = False,
    ) -> None:
        self.params, self.jobs, self.preflight, self.fetch = dict(params or {}), jobs, preflight, fetch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`; exits where the launcher's plugin is missing."""
        self.cfg, self.hydra, self.context = config, config.hydra, hydra_context
        choice = str(self.hydra.runtime.choices["hydra/launcher"])
        try:
            check_installed(choice, str(self.hydra.launcher._target_))
            self.jobs_launcher: Launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )
        except ConfigError as error:
            raise SystemExit(f"error: {error}") from None
        except (RuntimeError, ImportError) as error:
            reason = f"its plugin cannot be imported ({error}); install the suite's extras anew"
            raise SystemExit(f"error: {ConfigError('hydra/launcher', choice, reason)}") from None

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Launch every job that is not done and return all records.

        Exits with 1 if a job failed, or before all if one cannot be, or a node could not run it.
        """
        configure_log(self.hydra.job_logging, self.hydra.verbose)
        jobs = self._expand(arguments)
        try:
            for overrides in jobs:
                check_model(overrides, self._conf_dir())
            Path(str(self.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
            finished = Finished(runs_folder(str(self.cfg.runs_dir)), self._composed)
            done = finished.of(jobs)
            left = [job for job, record in zip(jobs, done, strict=True) if record is None]
            log.info("%d jobs%s", len(jobs), f", {len(jobs) - len(left)} of them done already" if any(done) else "")
            if left:
                self._check_nodes(left)
            returned = self._launch(left, finished)
        except (ConfigError, WriteError) as error:
            raise SystemExit(f"error: {error}; nothing was started") from None
        kept = [_kept(result, finished) for result in returned if result.status == JobStatus.COMPLETED]
        failed = [(job, result) for job, result in zip(left, returned, strict=True) if _has_failed(result)]
        if failed:
            log.error("%d of %d jobs failed:", len(failed), len(jobs))
            for overrides, result in failed:
                log.error("  %s\n    %s", " ".join(overrides), cause(result))
            raise SystemExit(1)
        return [record for record in done if record is not None] + kept

    def _check_nodes(self, jobs: Sequence[Sequence[str]]) -> None:
        """The preflight job, once a node.

        Raises:
            ConfigError: a node cannot run the jobs; the message holds the remedy.
        """
        if not self.preflight:
            return
        named = {part.partition("=")[2] for job in jobs for part in job if part.startswith("dataset=")}
        asked = request(named or {str(self.cfg.dataset.name)}, self.fetch)
        if is_here(self.jobs_launcher):
            found = [inspect(asked, runs_folder(str(self.cfg.runs_dir)), str(self.cfg.device))]
        else:
            returned = launch_everywhere(self.jobs_launcher, [*jobs[0], f"preflight='{json.dumps(asked)}'"])
            found = []
            for result in returned:
                if result.status != JobStatus.COMPLETED:
                    raise ConfigError("hydra/launcher", kind(self.jobs_launcher), f"preflight: {cause(result)}")
                found.append(result.return_value)
        for node in found:
            if node["commit"] != asked["commit"]:
                log.warning("%s is at commit %s, not %s", node["host"], node["commit"], asked["commit"])
            if node["fetched"]:
                log.info("%s fetched %s", node["host"], ", ".join(node["fetched"]))
        problems = [f"{node['host']}: {problem}" for node in found for problem in node["problems"]]
        if problems:
            raise ConfigError("hydra/launcher", kind(self.jobs_launcher), "preflight: " + "; ".join(problems))

    def _launch(self, jobs: list[list[str]], finished: Finished) -> list[JobReturn]:
        """Every job's return; where joblib's workers died, what they left undone is launched once more."""
        try:
            return launch(self.jobs_launcher, jobs)
        except WorkersDied as error:
            log.error("%s; what is not done is launched once more", error)
        bury(finished.runs)
        returned = dict(enumerate(map(_completed, finished.of(jobs))))
        left = [number for number, result in returned.items() if result is None]
        try:
            again: Sequence[JobReturn] = launch(self.jobs_launcher, [jobs[number] for number in left])
        except WorkersDied as error:
            bury(finished.runs)
            tried = [jobs[number] for number in left]
            ended = map(_completed, finished.of(tried))
            reason = f"the workers died twice ({error})"
            again = [result or lost(job, reason) for job, result in zip(tried, ended, strict=True)]
        returned |= dict(zip(left, again, strict=True))
        return [result for result in returned.values() if result is not None]

    def _composed(self, overrides: Sequence[str]) -> dict[str, Any]:
        cfg = self.context.config_loader.load_sweep_config(self.cfg, list(overrides))
        with open_dict(cfg):
            del cfg["hydra"]
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

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
    if read_yaml(conf / "model" / f"{model}.yaml").get("attention") is not None:
        return
    own = read_yaml(conf / "dataset" / f"{dataset}.yaml")
    family = next(value for part in own["defaults"] if isinstance(part, dict) for value in part.values())
    # A set of a known process has rules that its family at large has not.
    has = own.get("task", {}).get("trivial_models") or read_yaml(conf / "task" / f"{family}.yaml")["trivial_models"]
    if model not in has:
        raise ConfigError(
            "model", model, f"dataset={dataset} is {family}; its models without training are {', '.join(has)}"
        )


def _kept(result: JobReturn, finished: Finished) -> Any:
    """The job's record, written here too if the worker's disk is not ours."""
    record = result.return_value
    if isinstance(record, Mapping):
        finished.keep(record)
    return record


def _has_failed(result: JobReturn) -> bool:
    if result.status != JobStatus.COMPLETED:
        return True
    return isinstance(result.return_value, Mapping) and result.return_value["status"] == "failed"


def _completed(record: Mapping[str, Any] | None) -> JobReturn | None:
    return JobReturn(status=JobStatus.COMPLETED, _return_value=record) if record is not None else None
