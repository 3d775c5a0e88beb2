"""Event forecasting: the Transformer Hawkes Process with a log-normal mixture, around either backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.data import Resolved
    from tasks.events.data import EventData
    from tasks.task import Task

PROTOCOLS = ("honest", "paper_compat")


def load_data(cfg: Mapping[str, Any], resolved: Resolved) -> EventData:
    """The data of a job. Raises DatasetError for bad files, ConfigError for bad options."""
    from tasks.data import load_cached
    from tasks.errors import ConfigError
    from tasks.events.data import PARSE_VERSION, EventData, parse
    from tasks.events.generated import generate_set, known_process
    from tasks.events.sequences import EventSequences

    if cfg.get("horizon") is not None:
        raise ConfigError("horizon", cfg["horizon"], "events have no horizon; leave it null")
    if cfg["protocol"] not in PROTOCOLS:
        raise ConfigError("protocol", cfg["protocol"], f"choose one of {', '.join(PROTOCOLS)}")
    options = cfg["task"]["data"]
    folds = None
    if resolved.source == "generated":
        sequences, folds = generate_set(resolved.dataset, options)
        source = resolved.label
    else:
        arrays = load_cached(resolved, parse, PARSE_VERSION)
        sequences, folds = EventSequences.from_arrays(arrays), arrays.get("folds")
        source = str(resolved.files["events"])
    return EventData(
        sequences,
        options,
        seed=cfg["seed"],
        source=source,
        fold=cfg.get("fold"),
        folds=folds,
        process=known_process(options) if resolved.source == "generated" else None,
    )


def build_task(cfg: Mapping[str, Any], data: EventData) -> Task:
    """The task model of a job. Raises ConfigError for impossible sizes, an unknown attention, a useless rule."""
    from tasks.errors import ConfigError
    from tasks.events.model import EventModel
    from tasks.events.rules import RULES, TRUTH, Rule, Truth, mark_rule
    from tasks.events.task import BaseEventTask, EventTask, RuleTask

    name, attention, optim, seed = cfg["model"]["name"], cfg["model"]["attention"], cfg["task"]["optim"], cfg["seed"]
    base = cfg["protocol"] == "paper_compat"
    if attention is None and name == TRUTH:
        if data.process is None:
            raise ConfigError("model", name, "the truth is known only of generated processes (Sin, known/...)")
        return RuleTask(Truth(data.process), data, optim=optim, seed=seed)
    if attention is None and name in RULES:
        if data.n_marks == 1 and name != "static_lognormal":
            raise ConfigError("model", name, "this set has no marks; its trivial rule is static_lognormal")
        rule = Rule(data.statistics, mark_rule(name, data.splits["train"]))
        return RuleTask(rule, data, optim=optim, seed=seed)
    if attention is None:
        raise ConfigError("model", name, f"the trivial models of events are {', '.join((*RULES, TRUTH))}")
    sizes: dict[str, Any] = dict(cfg["task"]["model"])
    if base:
        sizes["gap_input"] = False
    try:
        model = EventModel(
            n_marks=data.n_marks,
            statistics=data.statistics,
            attention=attention,
            plain=base,
            **sizes,
        )
    except ValueError as error:
        raise ConfigError("task.model", dict(cfg["task"]["model"]), str(error)) from error
    return (BaseEventTask if base else EventTask)(model, data, optim=optim, seed=seed)
