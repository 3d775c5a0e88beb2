"""Two sets that ask a model to remember: the answer follows from the series, so that the best accuracy is 1.

`recall`, associative recall: every step holds a key and a value, each key once, in random order; the last step holds
a key alone, and the class is the value that it came with. `selective-copy`: symbols, of which four at random places
carry a mark, 1 to 4 in their order, and the rest none; the last step holds a mark alone, and the class is the symbol
that it stood beside.

Both ask at the end. The marks are few, and a model can set them aside from the start; the keys are as many as the
steps, so that a model without a look back must keep every pair. Guessing is right once in CLASSES; naming the most
common value of the series, which needs no pair, is right for 0.33 of the test cases of `recall`, and naming the most
common marked symbol for 0.41 of those of `selective-copy`.

Channels are 0 or 1: one for each key (mark), then one for each value (symbol).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tasks.errors import ConfigError

VERSION = 1  # of the generators; raise it, and `generator_version` in conf/dataset/known/, when a set changes
CASES = {"train": 10_000, "test": 2_000}
CLASSES = 8  # values of a key, symbols beside a mark
KEYS = 8
STEPS, MARKS = 12, 4  # of selective-copy, before the question
SEED = 20240522


def generate(options: Mapping[str, Any], dataset: str) -> dict[str, np.ndarray]:
    """The arrays that `parse` gives, of the set that `generator` and `generator_version` name; and `best_accuracy`.

    Raises:
        ConfigError: a generator, or a version of it, that this project does not have.
    """
    name, version = options["generator"], options["generator_version"]
    if name not in _GENERATORS:
        raise ConfigError(
            "task.data.generator", name, f"{dataset} is generated; choose one of {', '.join(_GENERATORS)}"
        )
    if version != VERSION:
        raise ConfigError("task.data.generator_version", version, f"this version of {name} is {VERSION}")
    arrays = {"classes": np.array([str(label) for label in range(CLASSES)]), "best_accuracy": np.array(1.0)}
    for number, (part, cases) in enumerate(CASES.items()):
        asked, shown, labels = _GENERATORS[name](cases, np.random.default_rng([SEED, VERSION, number]))
        values = np.concatenate([asked, shown], -1).astype(np.float32)  # [cases, steps, channels]
        arrays[f"{part}_values"] = values.reshape(-1, values.shape[-1])
        arrays[f"{part}_lengths"] = np.full(cases, values.shape[1], dtype=np.int64)
        arrays[f"{part}_labels"] = labels.astype(np.int64)
    return arrays


def _recall(cases: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keys = rng.permuted(np.tile(np.arange(KEYS), (cases, 1)), axis=1)
    values = rng.integers(0, CLASSES, (cases, KEYS))
    return _question(np.eye(KEYS)[keys], np.eye(CLASSES)[values], rng.integers(0, KEYS, cases))


def _selective_copy(cases: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    symbols = rng.integers(0, CLASSES, (cases, STEPS))
    marked = rng.permuted(np.tile(np.arange(STEPS) < MARKS, (cases, 1)), axis=1)
    marks = np.eye(MARKS + 1)[marked * marked.cumsum(1)][..., 1:]  # [cases, STEPS, MARKS]; nothing where unmarked
    chosen = rng.integers(0, MARKS, cases)
    places = np.nonzero(marked)[1].reshape(cases, MARKS)[np.arange(cases), chosen]
    return _question(marks, np.eye(CLASSES)[symbols], places)


def _question(keys: np.ndarray, values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys and values [cases, steps, ...] and a last step, the key at `places` again; and the value there [cases]."""
    rows = np.arange(len(keys))
    keys = np.concatenate([keys, keys[rows, places][:, None]], 1)
    return keys, np.pad(values, ((0, 0), (0, 1), (0, 0))), values[rows, places].argmax(-1)


_GENERATORS: dict[str, Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
    "recall": _recall,
    "selective-copy": _selective_copy,
}
