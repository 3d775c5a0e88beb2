"""From a composed config to the plain dict that a job runs on, with every option checked that can be without data.

Imports no torch: planning and `--help` go through here too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tasks.errors import ConfigError, near_misses

# The models that are trained, in every family alike: each has an attention, and a file in conf/model/.
TRAINED = ("aaren", "transformer", "mean", "none", "aaren_queries", "custom")


def prepare(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `cfg` with the family's default horizon filled in.

    Raises:
        ConfigError: a model, protocol, horizon, fold or seed that this family or dataset does not have.
    """
    job = copy.deepcopy(dict(cfg))
    task, model, dataset = job["task"], job["model"], job["dataset"]["name"]
    family = task["family"]
    if model["attention"] is None and model["name"] not in task["trivial_models"]:
        has = [*TRAINED[:-1], *task["trivial_models"], TRAINED[-1]]
        near = near_misses(model["name"], has)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError("model", model["name"], f"{family} has no such model; {hint}it has {', '.join(has)}")
    if job["protocol"] not in task["protocols"]:
        raise ConfigError(
            "protocol", job["protocol"], f"{family} has {', '.join(task['protocols'])}; dataset={dataset} is {family}"
        )
    seed = job["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError("seed", seed, "a seed is an integer from 0 to 4294967295")
    job["horizon"] = _horizon(job.get("horizon"), task, dataset)
    folds = job["dataset"].get("folds")
    if job.get("fold") is not None and not (folds and 0 <= job["fold"] < folds):
        has = f"folds 0 to {folds - 1}" if folds else "no folds"
        raise ConfigError("fold", job["fold"], f"{dataset} has {has}")
    limit = job.get("time_limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0):
        raise ConfigError("time_limit", limit, "give seconds, more than 0, or null for no limit")
    return job


def _horizon(horizon: Any, task: Mapping[str, Any], dataset: str) -> int | None:
    default = task.get("default_horizon")
    if default is None:
        if horizon is not None:
            raise ConfigError("horizon", horizon, f"dataset={dataset} is {task['family']}, which has no horizons")
        return None
    if horizon is None:
        return int(default)
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise ConfigError("horizon", horizon, "a horizon is a number of steps, at least 1")
    return horizon
