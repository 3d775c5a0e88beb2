"""Which jobs `make reproduce` wants: every dataset with a config, every model its family has, every seed.

Composes each dataset once and puts the models and seeds in by hand, so that 380 jobs plan in a second or two; a test
holds the run ids against those of the jobs that were really run.  Needs no torch.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir

from tasks.composing import Composer, composed
from tasks.conffiles import read_yaml
from tasks.errors import ConfigError, DatasetError, DatasetUnavailable
from tasks.jobconfig import TRAINED, prepare
from tasks.locate import resolve  # not from tasks.data, which brings NumPy
from tasks.overrides import check_overrides, options
from tasks.suite.plan import Request
from tasks.verify import verified

MODELS = ("aaren", "transformer")
# Sets with a known truth are there to show what training can do: the ablation without a query runs on them too.
KNOWN, ABLATION = "known/", "mean"


@dataclass(frozen=True)
class Wanted:
    """What `make reproduce` was asked for; an empty tuple means all there are."""

    profile: str = "quick"
    seeds: int = 1
    families: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    protocol: str = "honest"
    horizons: tuple[int, ...] = ()
    overrides: tuple[str, ...] = ()


def requests(wanted: Wanted, conf: Path) -> tuple[list[Request], list[DatasetError]]:
    """The jobs, and an error for each dataset whose files are there but cannot be used.

    Raises:
        UnknownDataset, ConfigError: a dataset, family, model or option there is not.
    """
    wanted = _checked(wanted, conf)
    found: list[Request] = []
    broken: list[DatasetError] = []
    with initialize_config_dir(version_base="1.3", config_dir=str(conf.absolute())):
        common = _common(wanted, "task.")
        composer = Composer(conf, common[:2], common[2:])
        for dataset in wanted.datasets or options(conf, "dataset"):
            cfg = composer.of(dataset)
            family = cfg["task"]["family"]
            if (wanted.families and family not in wanted.families) or wanted.protocol not in cfg["task"]["protocols"]:
                continue
            label, sha256, why, folds = dataset, {}, None, None
            try:
                source = verified(resolve(dataset, cfg["dataset"]["variant"]))
                label, sha256 = source.label, dict(source.sha256)
                folds = cfg["dataset"].get("folds") if source.variant == "official" else None
            except DatasetUnavailable as error:
                why = f"{error.reason}. Fix: {error.fix}"
            except DatasetError as error:
                broken.append(error)
                continue
            data = {"dataset": dataset, "label": label, "sha256": sha256, "unavailable": why}
            found += _jobs_of(cfg, wanted, conf, folds=folds, **data)
    if not found and not broken:
        raise ConfigError(
            "FAMILY", " ".join(wanted.families) or wanted.protocol, "no dataset matches what was asked for"
        )
    return found, broken


def models_of(dataset: str, task: dict[str, Any], wanted: Wanted) -> list[str]:
    """The models that run on a dataset: those asked for that its family has, else the pair, the ablations that the
    family lists, and the trivial ones.
    """
    trivial = list(task["trivial_models"])
    if wanted.models:
        return [model for model in wanted.models if model in trivial or model in TRAINED]
    return [*MODELS, *task.get("ablations", ()), *([ABLATION] if dataset.startswith(KNOWN) else []), *trivial]


def _jobs_of(
    cfg: dict[str, Any], wanted: Wanted, conf: Path, *, dataset: str, folds: int | None, **data: Any
) -> list[Request]:
    """The jobs on one dataset: its models, by seeds, horizons and the folds that it was published with."""
    jobs = []
    horizons = wanted.horizons if wanted.horizons and cfg["task"].get("default_horizon") else (None,)
    for model in models_of(dataset, cfg["task"], wanted):
        if any(override.startswith("model.") for override in wanted.overrides):
            content = composed([f"dataset={dataset}", f"model={model}", *_common(wanted)])["model"]
        else:
            content = read_yaml(conf / "model" / f"{model}.yaml")
        for key in [key for key, value in content.items() if value == "???"]:
            raise ConfigError(
                f"model.{key}", "???", f"model={model} leaves it to you: add the override model.{key}=... to every job"
            )
        # A rule without training gives the same numbers for every seed.
        seeds = range(wanted.seeds if content["attention"] is not None else 1)
        for horizon, seed, fold in itertools.product(horizons, seeds, range(folds) if folds else (None,)):
            job = copy.deepcopy(cfg) | {"model": content, "seed": seed, "horizon": horizon, "fold": fold}
            chosen = [f"dataset={dataset}", f"model={model}", f"seed={seed}", *_common(wanted)]
            chosen += [f"horizon={horizon}"] if horizon is not None else []
            chosen += [f"fold={fold}"] if fold is not None else []
            jobs.append(Request(prepare(job), tuple(chosen), dataset, **data))
    return jobs


def _common(wanted: Wanted, prefix: str = "") -> list[str]:
    """The overrides of every job; with a prefix, only those below it beside the profile and the protocol."""
    asked = [override for override in wanted.overrides if override.startswith(prefix)]
    return [f"profile={wanted.profile}", f"protocol={wanted.protocol}", *asked]


def _checked(wanted: Wanted, conf: Path) -> Wanted:
    """The same request with its names in their own case; raises for those that there are not."""
    known = options(conf, "task")
    for family in wanted.families:
        if family not in known:
            raise ConfigError("FAMILY", family, f"no such family; there are {', '.join(known)}")
    datasets = check_overrides([f"dataset={name}" for name in wanted.datasets], conf)
    models = check_overrides([f"model={name}" for name in wanted.models], conf)
    check_overrides([f"profile={wanted.profile}", *wanted.overrides], conf)
    return replace(
        wanted,
        datasets=tuple(part.partition("=")[2] for part in datasets),
        models=tuple(part.partition("=")[2] for part in models),
    )
