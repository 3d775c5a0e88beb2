"""Classification of multivariate series: the ten sets of the UEA archive (protocol of the Time Series
Library), and two generated ones that ask for memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.classification.data import ClassificationData
    from tasks.classification.task import ClassificationTask
    from tasks.data import Resolved


def load_data(cfg: Mapping[str, Any], resolved: Resolved) -> ClassificationData:
    """The data of a job. Raises DatasetError for bad files, ConfigError for bad options."""
    from tasks.classification.data import PARSE_VERSION, ClassificationData, parse
    from tasks.classification.recall import generate
    from tasks.data import load_cached
    from tasks.errors import ConfigError

    if cfg.get("horizon") is not None:
        raise ConfigError("horizon", cfg["horizon"], "classification has no horizon; leave it null")
    if cfg.get("fold") is not None:
        raise ConfigError("fold", cfg["fold"], "the archive's TRAIN and TEST are fixed; leave it null")
    sizes = cfg["task"]["data"]
    # A generated set is made anew: no file's hash would tell a cache that its generator has changed.
    generated = resolved.source == "generated"
    arrays = generate(sizes, resolved.dataset) if generated else load_cached(resolved, parse, PARSE_VERSION)
    return ClassificationData(
        arrays,
        protocol=cfg["protocol"],
        batch_size=sizes["batch_size"],
        eval_batch_size=sizes["eval_batch_size"],
        seed=cfg["seed"],
    )


def build_task(cfg: Mapping[str, Any], data: ClassificationData) -> ClassificationTask:
    """The task model of a job. Raises ConfigError for impossible sizes, an unknown attention or trivial
    model.
    """
    from tasks.classification.model import CausalClassifier, Majority
    from tasks.classification.task import ClassificationTask, PaperCompatTask
    from tasks.errors import ConfigError

    model = cfg["model"]
    if model["attention"] is not None:
        try:
            network = CausalClassifier(
                channels=data.channels,
                classes=len(data.classes),
                steps=data.steps,
                reached=data.reached,
                attention=model["attention"],
                **cfg["task"]["model"],
            )
        except ValueError as error:
            raise ConfigError("task.model", dict(cfg["task"]["model"]), str(error)) from error
    elif model["name"] == "majority":
        network = Majority(data.class_counts)
    else:
        raise ConfigError("model", model["name"], "classification's only trivial model is majority")
    kind = ClassificationTask if data.protocol == "honest" else PaperCompatTask
    return kind(network, len(data.classes), optim=cfg["task"]["optim"], seed=cfg["seed"])
