"""What a job will cost, from measured training steps: updates times milliseconds, scaled to the job's own sizes."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

EFFICIENCY_FOLDER = Path(__file__).resolve().parents[2] / "results" / "efficiency"
_SIZES = ("batch", "tokens", "d_model", "d_ff", "layers")
_GPU = "gpu-"  # how the file of measurements on a GPU begins


class Work(NamedTuple):
    """A training job in numbers: `updates` at most, each on `batch` sequences of `tokens`."""

    updates: int
    batch: int
    tokens: int
    d_model: int
    d_ff: int
    layers: int

    @property
    def arithmetic(self) -> int:
        """Multiplications of an update, up to a factor: projections and feed-forward, which dominate at these sizes."""
        return self.batch * self.tokens * self.layers * self.d_model * (4 * self.d_model + 2 * self.d_ff)


class Step(NamedTuple):
    """A measured training step: its sizes (`work.updates` is 1) and milliseconds per model."""

    work: Work
    ms: Mapping[str, float]


def measured_steps(gpu: bool, folder: Path = EFFICIENCY_FOLDER) -> list[Step]:
    """The training steps in `folder/*train*.csv`: on a GPU those of the files that begin with `gpu-`, else the others.

    A file has the columns batch, tokens, d_model, d_ff, layers, and either model and ms, or `<model>_ms` a model.
    Files without them hold other measurements.
    """
    steps: dict[Work, dict[str, float]] = {}
    for path in sorted(folder.glob("*train*.csv")):
        if path.name.startswith(_GPU) != gpu:
            continue
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))  # pandas would take longer to import than a plan to make
        if not rows or not set(_SIZES) <= set(rows[0]):
            continue
        for row in rows:
            times = {key[:-3]: row[key] for key in row if key.endswith("_ms")}
            if "model" in row and "ms" in row:
                times = {row["model"]: row["ms"]}
            work = Work(1, *(int(row[name]) for name in _SIZES))
            measured = {model: float(ms) for model, ms in times.items() if ms}  # a cell may be empty
            steps.setdefault(work, {}).update({model: ms for model, ms in measured.items() if ms > 0})
    return [Step(work, ms) for work, ms in steps.items() if ms]


def work_of(cfg: Mapping[str, Any], shape: Mapping[str, int]) -> Work | None:
    """What a job trains, from its config and the dataset's shape in the manifest; None if these do not tell.

    Early stopping is not foreseen: epochs count in full.
    """
    task = cfg["task"]
    model, budget, batch = task.get("model", {}), task.get("budget", {}), task.get("data", {}).get("batch_size")
    counted = _ITEMS.get(task["family"], lambda *_: None)(cfg, shape)
    if counted is None or not batch or not {"d_model", "d_ff", "n_layers"} <= set(model):
        return None
    items, tokens = counted
    updates = budget.get("max_steps")
    if updates is None and items and budget.get("max_epochs"):
        updates = budget["max_epochs"] * math.ceil(items / batch)
    if not updates:
        return None
    return Work(int(updates), batch, tokens, model["d_model"], model["d_ff"], model["n_layers"])


def seconds(work: Work, model: str, steps: Sequence[Step]) -> float | None:
    """Seconds of training, from the measured step nearest in width and length; None if nothing was measured.

    A model that was not measured costs what the cheapest measured one does.
    """
    if not steps:
        return None

    def distance(step: Step) -> float:
        return abs(math.log(step.work.d_model / work.d_model)) + 0.5 * abs(math.log(step.work.tokens / work.tokens))

    nearest = min(steps, key=distance)
    ms = nearest.ms.get(model, min(nearest.ms.values()))
    return work.updates * ms / 1000 * work.arithmetic / nearest.work.arithmetic


Counted = tuple[int | None, int]  # training items (None: not told), and tokens of one


def _forecasting(cfg: Mapping[str, Any], shape: Mapping[str, int]) -> Counted | None:
    task, horizon = cfg["task"], cfg.get("horizon")
    history, rows = task.get("history"), (task.get("data", {}).get("rows") or [None])[0]
    if rows is None and "rows" in shape:
        rows = int(0.7 * shape["rows"])
    if horizon is None or history is None:
        return None
    return (rows - history - horizon + 1 if rows else None), history + horizon


def _classification(cfg: Mapping[str, Any], shape: Mapping[str, int]) -> Counted | None:
    if "train" not in shape or "length_max" not in shape:
        return None
    return math.ceil(0.8 * shape["train"]), shape["length_max"]


def _events(cfg: Mapping[str, Any], shape: Mapping[str, int]) -> Counted | None:
    if "sequences" not in shape or "events" not in shape:
        return None
    return math.ceil(0.6 * shape["sequences"]), max(1, round(shape["events"] / shape["sequences"]))


def _rl(cfg: Mapping[str, Any], shape: Mapping[str, int]) -> Counted | None:
    context = cfg["task"].get("data", {}).get("context")
    return (None, 3 * context) if context else None


_ITEMS: dict[str, Callable[[Mapping[str, Any], Mapping[str, int]], Counted | None]] = {
    "forecasting": _forecasting, "classification": _classification, "events": _events, "rl": _rl,
}  # fmt: skip
