"""From records to cells: mean, spread, seeds and failures of one model on one row, never over unlike runs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.suite.identity import canonical_json
from tasks.suite.layout import Metric

Record = Mapping[str, Any]
Replicate = tuple[int, Any]  # seed and fold


@dataclass(frozen=True)
class Cell:
    """One model on one row (dataset label, horizon, metric), over the seeds of one configuration.

    Attributes:
        values: (seed, fold) -> printed value (already scaled); done jobs only.
        failed: number of jobs that failed, of `len(values) + failed`.
        n: test items behind each value; several numbers where the jobs differ.
        trained: False for a trivial rule.
        same_options: False if trained with other options than the row's other models.
        runs: the run ids behind the cell, failed ones too.
    """

    model: str
    metric: Metric
    values: Mapping[Replicate, float]
    failed: int
    n: tuple[int, ...]
    higher_is_better: bool
    trained: bool
    same_options: bool = True
    runs: tuple[str, ...] = field(default=(), compare=False)

    @property
    def mean(self) -> float:
        """Mean over the done jobs; NaN without any."""
        return float(np.mean(list(self.values.values()))) if self.values else float("nan")

    @property
    def std(self) -> float:
        """Sample standard deviation (n - 1); NaN for fewer than two jobs."""
        return float(np.std(list(self.values.values()), ddof=1)) if self.done > 1 else float("nan")

    @property
    def done(self) -> int:
        """The number of done jobs."""
        return len(self.values)

    @property
    def complete(self) -> bool:
        """Done for every seed that was tried."""
        return bool(self.values) and not self.failed

    def text(self) -> str:
        """`0.412 ± 0.003 (5)`, and `failed (k of n)` for whatever is missing from the average."""
        total, digits, parts = self.done + self.failed, self.metric.digits, []
        if self.values:
            spread = f" ± {self.std:.{digits}f}" if self.done > 1 else ""
            parts.append(f"{self.mean:.{digits}f}{spread} ({self.done})")
        if self.failed:
            parts.append(f"failed ({self.failed} of {total})")
        return "; ".join(parts) + ("" if self.same_options else " ‡")

    def better_than(self, other: Cell) -> bool:
        """Whether this cell's mean is strictly better than the other's."""
        return self.mean > other.mean if self.higher_is_better else self.mean < other.mean


@dataclass(frozen=True)
class Choice:
    """The records that speak for one row (label and horizon): per model those of one configuration.

    `left_out` are the records of other configurations; `other_options` the models whose options differ from the row's.
    """

    by_model: Mapping[str, list[Record]]
    left_out: list[Record]
    other_options: frozenset[str]


def choose(records: Iterable[Record], prefer: Collection[str] = ()) -> Choice:
    """Pick one configuration a model; trained models share theirs if they can.

    The row's options (everything in the config but the model) are those of the newest protocol version, then of most
    done jobs, then of the latest finish. `prefer`: config hashes or run ids that come first (the current plan's).
    An unavailable record never competes.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record["status"] != "unavailable":
            groups[record["model"], record["config_hash"]].append(record)
    options = {key: _options(group[0]) for key, group in groups.items()}
    by_options: dict[str, list[Record]] = defaultdict(list)
    for key, group in groups.items():
        if is_trained(group[0]):
            by_options[options[key]] += group
    row = max(by_options, key=lambda name: (_rank(by_options[name], prefer), name), default=None)
    by_model: dict[str, list[Record]] = {}
    left_out: list[Record] = []
    other: set[str] = set()
    for model in sorted({model for model, _ in groups}):
        keys = [key for key in groups if key[0] == model]
        best = max(keys, key=lambda key: (options[key] == row, _rank(groups[key], prefer), key))
        by_model[model] = groups[best]
        left_out += [record for key in keys if key != best for record in groups[key]]
        if is_trained(groups[best][0]) and options[best] != row:
            other.add(model)
    return Choice(by_model, left_out, frozenset(other))


def is_trained(record: Record) -> bool:
    """False for a family's trivial rules, which have no attention."""
    return record["config"].get("model", {}).get("attention") is not None


def cell(model: str, records: Sequence[Record], metric: Metric, same_options: bool = True) -> Cell | None:
    """The cell of one model's records of one configuration, or None if no job tried this metric.

    A done job without the metric does not count as failed: a family may not report it for this dataset.
    """
    values: dict[Replicate, float] = {}
    sizes: set[int] = set()
    higher, failed = False, 0
    for record in records:
        if record["status"] == "failed":
            failed += 1
            continue
        measure = record["metrics"]["test"].get(metric.name)
        if measure is not None:
            values[record["seed"], record["fold"]] = measure["value"] * metric.scale
            sizes.add(measure["n"])
            higher = measure["higher_is_better"]
    if not values and not failed:
        return None
    runs = tuple(record["run_id"] for record in records)
    return Cell(model, metric, values, failed, tuple(sorted(sizes)), higher, is_trained(records[0]), same_options, runs)


def average(cells: Sequence[Cell | None]) -> Cell | None:
    """The mean over several rows (horizons) of one model, seed by seed; a seed that lacks one of them is failed."""
    present = [cell for cell in cells if cell is not None]
    if not cells or len(present) < len(cells):
        return None
    seeds = sorted({key for cell in present for key in cell.values}, key=str)
    whole = [key for key in seeds if all(key in cell.values for cell in present)]
    if not whole:
        return None
    return Cell(
        present[0].model,
        present[0].metric,
        {key: float(np.mean([cell.values[key] for cell in present])) for key in whole},
        max(max(cell.failed for cell in present), len(seeds) - len(whole)),
        (),
        present[0].higher_is_better,
        present[0].trained,
        all(cell.same_options for cell in present),
        tuple(run for cell in present for run in cell.runs),
    )


def _rank(records: Sequence[Record], prefer: Collection[str]) -> tuple[bool, int, int, str]:
    preferred = any(record["config_hash"] in prefer or record["run_id"] in prefer for record in records)
    version = max(record["protocol_version"] for record in records)
    done = sum(record["status"] == "done" for record in records)
    return preferred, version, done, max(record["finished"] or "" for record in records)


def _options(record: Record) -> str:
    rest = {key: value for key, value in record["config"].items() if key != "model"}
    return hashlib.sha256(canonical_json({"config": rest, "data": record["data"]["sha256"]}).encode()).hexdigest()
