"""Handing jobs to a Hydra launcher so that a dead worker costs its own job and no other.

The plugins for SLURM and ray give up at the first job without a result, and the others' results are lost; here each
job comes back as Hydra's `JobReturn`, a failed one where its worker died. Joblib cannot tell whose worker died:
there the whole launch is over, which `WorkersDied` says.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from tasks.errors import ConfigError

# Plugin package -> (what pip calls it, the extra that brings it).
PLUGINS = {
    "hydra_joblib_launcher": ("hydra-joblib-launcher", "suite"),
    "hydra_submitit_launcher": ("hydra-submitit-launcher", "slurm"),
    "hydra_ray_launcher": ("hydra-ray-launcher", "ray"),
}
LARGEST_ARRAY = 1000  # SLURM's own default limit is 1001
# What ray.init takes for a cluster that it starts, and refuses for one that is there.
OWN_CLUSTER = {"object_store_memory": 100_000_000, "include_dashboard": False}

Jobs = Sequence[Sequence[str]]


class WorkersDied(RuntimeError):
    """A launcher lost its workers and with them the results of all jobs; the message names the cause."""


def check_installed(launcher: str, target: str) -> None:
    """Refuse a launcher whose plugin cannot be imported, before Hydra does in its own words.

    Args:
        launcher: the choice, as in `hydra/launcher=ray`.
        target: the class that its config names.

    Raises:
        ConfigError: names the package and the extra that brings it.
    """
    parts = target.split(".")
    package, extra = PLUGINS.get(parts[1] if len(parts) > 1 else "", (None, None))
    if package is None:
        return
    try:
        if importlib.util.find_spec(".".join(parts[:2])) is not None:
            return
    except ModuleNotFoundError:  # not even the package that holds Hydra's plugins is there
        pass
    reason = f"its plugin {package} is not installed"
    raise ConfigError("hydra/launcher", launcher, f"{reason}; pip install -c constraints.txt -e '.[suite,{extra}]'")


def kind(launcher: Launcher) -> str:
    """`joblib`, `submitit_local`, `submitit_slurm`, `ray`, or the class's name for any other."""
    package = type(launcher).__module__.split(".")[1]
    if package == "hydra_submitit_launcher":
        return f"submitit_{getattr(launcher, '_EXECUTOR', '')}"
    known = {"hydra_joblib_launcher": "joblib", "hydra_ray_launcher": "ray"}
    return known.get(package, type(launcher).__name__)


def is_here(launcher: Launcher) -> bool:
    """Whether its jobs run on this machine with this process's environment."""
    return kind(launcher) in ("joblib", "BasicLauncher")


def launch(launcher: Launcher, jobs: Jobs, *, first: int = 0) -> list[JobReturn]:
    """Run every job to its end, in the order given.

    Raises:
        WorkersDied: of joblib, if one of its processes was killed.
    """
    if not jobs:
        return []
    if kind(launcher).startswith("submitit_"):
        return _submitit(launcher, jobs, first)
    if type(launcher).__name__ == "RayLauncher":
        return _ray(launcher, [(job, None) for job in jobs], first)
    try:
        return list(launcher.launch(jobs, initial_job_idx=first))
    except Exception as error:
        if type(error).__name__ in ("TerminatedWorkerError", "BrokenProcessPool"):
            raise WorkersDied(str(error).split("\n")[0]) from error
        raise


def launch_everywhere(launcher: Launcher, job: Sequence[str]) -> list[JobReturn]:
    """Run one job once on every node that the launcher knows: ray's, elsewhere the next to be had."""
    if type(launcher).__name__ != "RayLauncher":
        return launch(launcher, [job])
    _start_ray(launcher)
    import ray

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    return _ray(launcher, [(job, node) for node in nodes], 0)


def _submitit(launcher: Any, jobs: Jobs, first: int) -> list[JobReturn]:
    """As the plugin does it, in arrays no longer than SLURM takes, or than this machine has cores for."""
    import submitit

    given = {name: value for name, value in launcher.params.items() if value is not None}
    cluster = launcher._EXECUTOR
    timeouts = {f"{cluster}_max_num_timeout": given.pop("max_num_timeout")} if "max_num_timeout" in given else {}
    folder = given.pop("submitit_folder")
    shared = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"}
    shared |= {"stderr_to_stdout"}
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **timeouts)
    executor.update_parameters(**{k if k in shared else f"{cluster}_{k}": v for k, v in given.items()})
    cores = len(os.sched_getaffinity(0)) // int(given.get("cpus_per_task", 1))
    size = max(1, cores) if cluster == "local" else LARGEST_ARRAY
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    returned: list[JobReturn] = []
    for start in range(0, len(jobs), size):
        some = [list(job) for job in jobs[start : start + size]]
        numbers = range(first + start, first + start + len(some))
        names = [f"job_id_for_{number}" for number in numbers]
        state = [Singleton.get_state()] * len(some)
        submitted = executor.map_array(launcher, some, ["hydra.sweep.dir"] * len(some), numbers, names, state)
        try:
            returned += [_result(job, overrides) for job, overrides in zip(submitted, some, strict=True)]
        except KeyboardInterrupt:
            for job in submitted:
                job.cancel()
            raise
    return returned


def _result(job: Any, overrides: Sequence[str]) -> JobReturn:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.results()[0]
    except (UncompletedJobError, FailedJobError) as error:
        last = str(error).strip().splitlines()
        return lost(overrides, f"its worker died ({last[-1] if last else job.state}); log: {job.paths.stdout}")


def _start_ray(launcher: Any) -> None:
    import ray

    init = launcher.ray_cfg.init
    if ray.is_initialized():
        return
    given: Any = OmegaConf.to_container(init, resolve=True) if isinstance(init, DictConfig) else dict(init)
    own = OWN_CLUSTER if not (given.get("address") or os.environ.get("RAY_ADDRESS")) else {}
    try:
        ray.init(**own | given)
    except ConnectionError as error:
        reason = f"no ray cluster answers ({error}); start one with `ray start --head`, or leave the address null"
        raise ConfigError("ray.address", given.get("address"), reason) from error


def _ray(launcher: Any, jobs: Sequence[tuple[Sequence[str], str | None]], first: int) -> list[JobReturn]:
    """As the plugin does it; a job with a node's id runs on that node."""
    _start_ray(launcher)
    import ray
    from hydra_plugins.hydra_ray_launcher._launcher_util import _run_job
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = OmegaConf.to_container(launcher.ray_cfg.remote, resolve=True)
    waiting = []
    for number, (overrides, node) in enumerate(jobs, start=first):
        config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
        placed: dict[str, Any] = (
            {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)} if node else {}
        )
        run = ray.remote(**remote, **placed)(_run_job)
        waiting.append(run.remote(launcher.hydra_context, config, launcher.task_function, Singleton.get_state()))
    returned = []
    for (overrides, _), reference in zip(jobs, waiting, strict=True):
        try:
            returned.append(ray.get(reference))
        except RayError as error:
            last = str(error).strip().splitlines()
            returned.append(lost(overrides, f"its worker died ({last[-1] if last else type(error).__name__})"))
    return returned


def lost(overrides: Sequence[str], reason: str) -> JobReturn:
    """The return of a job that left none."""
    return JobReturn(overrides=list(overrides), status=JobStatus.FAILED, _return_value=RuntimeError(reason))


def cause(result: JobReturn) -> str:
    """Why a job failed, in one line."""
    error = result._return_value
    if isinstance(error, Mapping):
        return str(error.get("reason"))
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
