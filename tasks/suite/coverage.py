"""Which of the 38 datasets are at hand, and what would bring in the others: the note in a row without numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tasks.suite.layout import FAMILY_OF
from tasks.suite.sanitise import scrub

COLUMNS = ("dataset", "ready", "label", "reason", "fix")


class Coverage(NamedTuple):
    """Whether the dataset itself is ready; `label` is what a job would use instead (`Uber-sample`), "" for nothing.

    `reason` and `fix` say why it is not ready and the one step that mends it; "" where it is.
    """

    ready: bool
    label: str
    reason: str = ""
    fix: str = ""

    def note(self) -> str:
        """The sentence for the dataset's row; "" where it is ready."""
        if self.ready:
            return ""
        instead = f"; {self.label} is at hand and has a row among the extras" if self.label else ""
        return f"{self.reason}{instead}. To get it: {self.fix}"


def coverage(datasets: Iterable[str] = tuple(FAMILY_OF)) -> dict[str, Coverage]:
    """Look every dataset up in the data root, packages and downloads (existence and size only, no hashing)."""
    return {dataset: _look_up(dataset) for dataset in datasets}


def _look_up(dataset: str) -> Coverage:
    from tasks.data import DatasetError, resolve

    try:
        found = resolve(dataset)
    except DatasetError as error:
        return Coverage(False, "", _short(error.reason), _short(error.fix))
    if found.label == dataset:
        return Coverage(True, dataset)
    try:
        resolve(dataset, "official")
    except DatasetError as error:
        return Coverage(False, found.label, _short(error.reason), _short(error.fix))
    return Coverage(True, dataset)


def _short(text: str) -> str:
    return (scrub(text) or "").strip().rstrip(".")


def save_coverage(status: dict[str, Coverage]) -> str:
    """`status` as CSV text, for the results that are committed: their tables must not depend on this machine's data."""
    rows = [(dataset, *entry) for dataset, entry in status.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n")


def load_coverage(path: Path) -> dict[str, Coverage]:
    """What `save_coverage` wrote. Raises ValueError, naming the file, if its columns are not those."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise ValueError(f"{path}: the columns must be {', '.join(COLUMNS)}; gather the records again")
    return {
        row["dataset"]: Coverage(row["ready"] == "True", row["label"], row["reason"], row["fix"])
        for row in frame.to_dict("records")
    }
