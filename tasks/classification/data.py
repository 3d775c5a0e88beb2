"""Classification data: parsed, checked against the manifest, split, standardised, padded, batched.

Shapes: N cases, L steps of the longest series of the dataset, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tasks.batches import TaskData
from tasks.classification.arff import read_arff
from tasks.classification.panel import Panel
from tasks.classification.split import stratified_split
from tasks.classification.ts import read_ts
from tasks.data import Resolved
from tasks.errors import ConfigError, DatasetError

PARSE_VERSION = 1  # of the arrays that `parse` makes; a new number makes the cache parse again
PROTOCOLS = ("honest", "paper_compat")
PARTS = ("train", "test")


def parse(resolved: Resolved) -> dict[str, np.ndarray]:
    """Reads and checks both parts of a set.

    Gives `classes` (names, in TRAIN's declared order) and, for train and test, `<part>_values` float32 [all
    steps, C], `<part>_lengths` and `<part>_labels` int64 [N]. Raises DatasetError.
    """
    panels = {}
    for part in PARTS:
        path = resolved.files[part]
        panels[part] = (read_arff if path.suffix.lower() == ".arff" else read_ts)(path)
    _check(resolved, panels)
    classes = panels["train"].classes
    renumber = np.array([classes.index(name) for name in panels["test"].classes], dtype=np.int64)
    panels["test"] = panels["test"]._replace(labels=renumber[panels["test"].labels], classes=classes)
    arrays = {f"{part}_{key}": getattr(panels[part], key) for part in PARTS for key in ("values", "lengths", "labels")}
    return {"classes": np.array(classes), **arrays}


def _check(resolved: Resolved, panels: dict[str, Panel]) -> None:
    """Compares what was read with the manifest, and the parts with each other."""
    shape, fix = (
        resolved.entry.shape,
        f"put the archive's own {resolved.dataset} files there, both of one release",
    )

    def wrong(part: str, what: str, found: object, expected: object) -> DatasetError:
        reason = f"{what}: {found}, where {resolved.dataset} has {expected}"
        return DatasetError(resolved.files[part], reason, fix)

    train, test = panels["train"], panels["test"]
    if set(train.classes) != set(test.classes):
        raise wrong("test", "classes declared", ", ".join(test.classes), ", ".join(train.classes))
    for part, panel in panels.items():
        facts = {
            "number of cases": (len(panel.labels), shape.get(part)),
            "channels": (panel.values.shape[1], shape.get("channels", train.values.shape[1])),
            "number of classes": (len(panel.classes), resolved.entry.classes),
        }
        for what, (found, expected) in facts.items():
            if expected is not None and found != expected:
                raise wrong(part, what, found, expected)
        if resolved.entry.labels and set(panel.classes) != set(resolved.entry.labels):
            raise wrong(part, "class names", ", ".join(panel.classes), ", ".join(resolved.entry.labels))
    for key, pick in (("length_max", max), ("length_min", min)):
        ends = {part: pick(panel.lengths.tolist()) for part, panel in panels.items()}
        part = pick(ends, key=lambda name: ends[name])
        if shape.get(key) not in (None, ends[part]):
            raise wrong(part, f"{'longest' if pick is max else 'shortest'} series", ends[part], shape[key])
    for part, panel in panels.items():
        measured = _statistics(panel, resolved.entry.labels or panel.classes)
        for what, expected in resolved.entry.statistics.get(part, {}).items():
            found = measured[what]
            if not np.allclose(found, expected, rtol=1e-6, atol=1e-6):
                raise wrong(part, what, np.array(found).tolist(), expected)


def _statistics(panel: Panel, order: Sequence[str]) -> dict[str, np.ndarray | int]:
    """What the manifest's `statistics` hold, measured; classes counted in `order`."""
    values = panel.values.astype(np.float64)
    counts = np.bincount(panel.labels, minlength=len(panel.classes))
    return {
        "length_min": int(panel.lengths.min()),
        "length_max": int(panel.lengths.max()),
        "points": len(values),
        "class_counts": counts[[panel.classes.index(name) for name in order]],
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
    }


class Batch(NamedTuple):
    """`x` [B, N, C], zero from each series' `lengths` on, N the longest of the batch; `labels` class numbers."""

    x: Float[Tensor, "B N C"]
    lengths: Int[Tensor, " B"]
    labels: Int[Tensor, " B"]

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device) for tensor in self))


class ClassificationData(TaskData):
    """The three splits of a set.

    `honest`: TRAIN is split 80/20, stratified, by the job's seed; each channel is standardised with mean and
    standard deviation over all steps of the 80 % (TEST plays no part); TEST is opened by `batch("test", ...)`
    alone. `paper_compat`: the base code's habit, for comparison with published numbers: all of TRAIN trains,
    TEST is also the validation set, and TEST is standardised with its own statistics.
    A zero pad is a channel's mean, as in the base code.

    Args:
        arrays: what `parse` gives. A set of ours has `best_accuracy` as well: what can be reached.

    Raises:
        ConfigError: an unknown protocol.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        *,
        protocol: str,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed)
        if protocol not in PROTOCOLS:
            raise ConfigError("protocol", protocol, f"classification knows {' and '.join(PROTOCOLS)}")
        self.protocol = protocol
        self.classes = tuple(str(name) for name in arrays["classes"])
        self.best_accuracy = float(arrays["best_accuracy"]) if "best_accuracy" in arrays else None
        self.steps = int(max(arrays["train_lengths"].max(), arrays["test_lengths"].max()))
        self.channels = int(arrays["train_values"].shape[1])
        cases = {part: np.arange(len(arrays[f"{part}_labels"])) for part in PARTS}
        if protocol == "honest":
            train, val = stratified_split(arrays["train_labels"], seed)
            self.cases = {"train": ("train", train), "val": ("train", val), "test": ("test", cases["test"])}
        else:
            self.cases = {
                "train": ("train", cases["train"]),
                "val": ("test", cases["test"]),
                "test": ("test", cases["test"]),
            }
        self.sizes = {split: len(chosen) for split, (_, chosen) in self.cases.items()}
        if not all(self.sizes.values()):
            raise ConfigError("protocol", protocol, f"a split is empty ({self.sizes}): the set has too few cases")
        own = protocol == "paper_compat"
        self.scalers = {part: _fit(arrays, part if own else "train", self._fitted_on(part, own)) for part in PARTS}
        self._parts = {part: self._padded(arrays, part) for part in PARTS}

    def _fitted_on(self, part: str, own: bool) -> np.ndarray:
        return self.cases["test" if own and part == "test" else "train"][1]

    def _padded(self, arrays: dict[str, np.ndarray], part: str) -> Batch:
        lengths = arrays[f"{part}_lengths"]
        real = np.arange(self.steps) < lengths[:, None]
        x = np.zeros((*real.shape, self.channels), dtype=np.float32)
        x[real] = self.standardise(arrays[f"{part}_values"], part)
        return Batch(torch.from_numpy(x), torch.from_numpy(lengths), torch.from_numpy(arrays[f"{part}_labels"]))

    def standardise(self, values: np.ndarray, part: str = "train") -> np.ndarray:
        """Values [steps, C] on the scale that the network knows, float32: what a stream must be fed."""
        return np.asarray(self.scalers[part].transform(values.astype(np.float64)), dtype=np.float32)

    @property
    def reached(self) -> int:
        """Steps of the longest series in the training split."""
        part, cases = self.cases["train"]
        return int(self._parts[part].lengths[cases].max())

    @property
    def class_counts(self) -> Int[Tensor, " K"]:
        """Cases of each class in the training split."""
        part, cases = self.cases["train"]
        return torch.bincount(self._parts[part].labels[cases], minlength=len(self.classes))

    def batch(self, split: str, indices: np.ndarray) -> Batch:
        """The cases at `indices` of a split, cut to the longest of them."""
        part, cases = self.cases[split]
        rows = torch.from_numpy(cases[indices])
        whole = self._parts[part]
        lengths = whole.lengths[rows]
        return Batch(whole.x[rows, : int(lengths.max())], lengths, whole.labels[rows])


def _fit(arrays: dict[str, np.ndarray], part: str, cases: np.ndarray) -> StandardScaler:
    """Mean and standard deviation of each channel over all steps of `cases`, in float64."""
    chosen = np.zeros(len(arrays[f"{part}_lengths"]), dtype=bool)
    chosen[cases] = True
    steps = np.repeat(chosen, arrays[f"{part}_lengths"])
    return StandardScaler().fit(arrays[f"{part}_values"][steps].astype(np.float64))
