"""Small sets in the archive's own text formats, and a `Resolved` around any two files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.data import Resolved
from tasks.suite.manifest import VariantEntry

Cases = Sequence[np.ndarray]  # each [length, channels]


def ts_text(cases: Cases, labels: Sequence[str], classes: Sequence[str], **fields: str) -> str:
    """A `.ts` file as the archive writes it: header, then one case a line, channels parted by colons."""
    lengths = {len(case) for case in cases}
    header = {
        "problemName": "StandIn",
        "timeStamps": "false",
        "missing": "false",
        "univariate": "false",
        "dimensions": str(cases[0].shape[1]),
        "equalLength": "true" if len(lengths) == 1 else "false",
        **({"seriesLength": str(len(cases[0]))} if len(lengths) == 1 else {}),
        "classLabel": "true " + " ".join(classes),
        **fields,
    }
    lines = ["#a stand-in, not the archive's data", *(f"@{key} {value}" for key, value in header.items()), "@data"]
    for case, label in zip(cases, labels, strict=True):
        channels = (",".join(f"{value:.6g}" if value == value else "?" for value in row) for row in case.T)
        lines.append(":".join([*channels, label]))
    return "\n".join(lines) + "\n"


def arff_text(cases: Cases, labels: Sequence[str], classes: Sequence[str]) -> str:
    """The same in relational ARFF; series shorter than the longest are padded with `?`."""
    steps = max(len(case) for case in cases)
    lines = ["% a stand-in, not the archive's data", "@relation 'StandIn'", "@attribute relationalAtt relational"]
    lines += [f"@attribute att{step} numeric" for step in range(steps)]
    lines += ["@end relationalAtt", "@attribute class {" + ",".join(classes) + "}", "", "@data"]
    for case, label in zip(cases, labels, strict=True):
        channels = (
            ",".join([f"{value:.6g}" if value == value else "?" for value in row] + ["?"] * (steps - len(row)))
            for row in case.T
        )
        lines.append("'" + "\\n".join(channels) + "'," + label)
    return "\n".join(lines) + "\n"


def entry(train: int, test: int, channels: int, classes: int, **more: object) -> VariantEntry:
    shape = {"train": train, "test": test, "channels": channels}
    return VariantEntry("official", "none stated", shape, classes=classes, **more)  # pyright: ignore


@pytest.fixture
def resolved_set(tmp_path: Path) -> Callable[..., Resolved]:
    """Writes two parts, given as text, and gives the `Resolved` that points at them."""

    def make(train: str, test: str, facts: VariantEntry, *, name: str = "Heartbeat", ending: str = "ts") -> Resolved:
        files = {}
        for role, text in (("train", train), ("test", test)):
            files[role] = tmp_path / f"{name}_{role.upper()}.{ending}"
            files[role].write_text(text, encoding="utf-8")
        return Resolved(name, "classification", "official", files, {}, "data root", facts)

    return make


def toy_arrays(
    train: int = 40, test: int = 23, channels: int = 3, classes: int = 4, shortest: int = 5, longest: int = 11
) -> dict[str, np.ndarray]:
    """What `parse` gives, for a learnable set: each class has a level and a slope of its own."""
    rng = np.random.default_rng(7)
    arrays: dict[str, np.ndarray] = {"classes": np.array([f"c{k}" for k in range(classes)])}
    for part, n in (("train", train), ("test", test)):
        labels = np.arange(n) % classes
        lengths = rng.integers(shortest, longest + 1, n)
        lengths[0] = longest
        cases = [
            rng.normal(size=(steps, channels)) * 0.3 + 5.0 + label + np.linspace(0, 1, steps)[:, None] * (label % 2)
            for steps, label in zip(lengths, labels, strict=True)
        ]
        arrays[f"{part}_values"] = np.concatenate(cases).astype(np.float32)
        arrays[f"{part}_lengths"], arrays[f"{part}_labels"] = lengths.astype(np.int64), labels.astype(np.int64)
    return arrays


@pytest.fixture
def toy() -> dict[str, np.ndarray]:
    return toy_arrays()


@pytest.fixture
def ts() -> Callable[..., str]:
    return ts_text


@pytest.fixture
def arff() -> Callable[..., str]:
    return arff_text


@pytest.fixture
def facts() -> Callable[..., VariantEntry]:
    return entry


@pytest.fixture
def make_toy() -> Callable[..., dict[str, np.ndarray]]:
    return toy_arrays
