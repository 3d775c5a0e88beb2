"""The sets that are generated rather than read: known processes, and synthetic twins of sets that cannot ship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.errors import ConfigError
from tasks.events.processes import Process
from tasks.events.sequences import EventSequences
from tasks.events.simulate import PROCESSES, generate, process
from tasks.events.twins import TWINS


def generate_set(dataset: str, options: Mapping[str, Any]) -> tuple[EventSequences, np.ndarray | None]:
    """The events of a generated set and its folds [F, S] (None: no folds), from `generator` and `generator_seed`."""
    name, seed = options["generator"], options["generator_seed"]
    if name in TWINS:
        return TWINS[name](seed)
    if name in PROCESSES:
        return generate(name, seed, options["n_sequences"]), None
    known = ", ".join((*PROCESSES, *TWINS))
    raise ConfigError("task.data.generator", name, f"{dataset} is generated; choose one of {known}")


def known_process(options: Mapping[str, Any]) -> Process | None:
    """The process whose law is known; None for twins, whose law nobody needs."""
    return process(options["generator"]) if options["generator"] in PROCESSES else None
