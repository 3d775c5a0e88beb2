"""The `import` command: a user's own copy of a published set, in any of its layouts, into the data root as npz."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import data_root
from tasks.errors import ConfigError, DatasetError
from tasks.events import layouts
from tasks.events.readers import check_facts
from tasks.events.sequences import EventSequences, from_lists
from tasks.events.unpickle import read_object_npz, read_pickle
from tasks.suite.atomic import write_atomic
from tasks.suite.manifest import load_manifest

Imported = tuple[EventSequences, np.ndarray | None]
PICKLES = (("train", "train.pkl"), ("dev", "dev.pkl"), ("test", "test.pkl"))
FOLDS = range(1, 6)


def read_neural_hawkes(folder: Path, n_marks: int, unit: str) -> EventSequences:
    """`train.pkl`, `dev.pkl`, `test.pkl` of the Neural Hawkes project: lists of lists of event dicts."""
    times, marks, split = [], [], []
    for code, (part, name) in enumerate(PICKLES):
        content = read_pickle(folder / name)
        fix = "use the pickles of the Neural Hawkes project"
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise DatasetError(folder / name, f"has no list {part!r}", fix)
        for s, sequence in enumerate(content[part]):
            try:
                times.append(np.array([event["time_since_start"] for event in sequence]))
                marks.append(np.array([event["type_event"] for event in sequence]))
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(folder / name, f"sequence {s}: {type(error).__name__}: {error}", fix) from error
            split.append(code)
        rows = slice(split.index(code), None) if code in split else slice(0, 0)
        if times[rows]:  # a fault is named by its own file; a release may leave its dev part empty
            from_lists(times[rows], marks[rows], path=folder / name, n_marks=n_marks, unit=unit)
    return from_lists(times, marks, path=folder, n_marks=n_marks, unit=unit, split=np.array(split))


def read_ifl(path: Path, n_marks: int, unit: str, window: tuple[float, float] | None) -> EventSequences:
    """ifl-tpp's npz: `arrival_times` and, where marked, `marks`, each an array of sequences."""
    arrays = read_object_npz(path)
    if "arrival_times" not in arrays:
        raise DatasetError(path, f"has {', '.join(arrays) or 'nothing'}, no arrival_times", "use ifl-tpp's npz layout")
    try:
        times = [np.asarray(row) for row in arrays["arrival_times"]]
        marks = [np.asarray(row) for row in arrays["marks"]] if "marks" in arrays else None
    except (TypeError, ValueError) as error:
        raise DatasetError(path, f"sequences are no lists of numbers ({error})", "use ifl-tpp's npz layout") from error
    return from_lists(times, marks, path=path, n_marks=n_marks, unit=unit, window=window)


def join_folds(folds: list[EventSequences]) -> Imported:
    """Folds of one set to its sequences, in the first fold's order, and the split of each in every fold [F, S]."""

    def keys(part: EventSequences) -> list[bytes]:
        ends = zip(part.offsets[:-1], part.offsets[1:], strict=True)
        return [part.times[a:b].tobytes() + part.marks[a:b].tobytes() for a, b in ends]

    first = keys(folds[0])
    order = sorted(range(len(first)), key=lambda i: first[i])
    splits = np.zeros((len(folds), len(first)), np.int8)
    for fold, part in enumerate(folds):
        own = keys(part)
        own_order = sorted(range(len(own)), key=lambda i: own[i])
        if [own[i] for i in own_order] != [first[i] for i in order]:
            raise DatasetError(
                "fold", f"{fold + 1} does not hold the sequences of fold 1", "use the folds of one release"
            )
        splits[fold, order] = part.split[own_order]
    return replace(folds[0], split=splits[0]), splits


def _mimic(path: Path) -> Imported:
    if (path / "fold1").is_dir():
        present = [path / f"fold{k}" for k in FOLDS if (path / f"fold{k}").is_dir()]
        return join_folds([read_neural_hawkes(folder, 75, "years") for folder in present])
    if (path / PICKLES[0][1]).is_file():
        return join_folds([read_neural_hawkes(path, 75, "years")])
    present_folds = [k for k in FOLDS if (path / f"time-{k}-train.txt").is_file()]
    if not present_folds:
        fix = "give the folder with fold1/train.pkl ..., train.pkl, or time-1-train.txt"
        raise DatasetError(path, "holds no layout of MIMIC that is known", fix)
    options: dict[str, Any] = {"n_marks": 75, "unit": "years", "start": 0.0, "end": np.nan}
    return join_folds([layouts.read_rmtpp(path, k, **options) for k in present_folds])


def _stackoverflow(path: Path) -> Imported:
    window = 63158400.0
    if (path / PICKLES[0][1]).is_file():
        return read_neural_hawkes(path, 22, "seconds"), None
    return layouts.read_rmtpp(path, 1, n_marks=22, unit="seconds", start=1325376000.0, end=window), None


def _jodie(n_marks: int, end: float, by_item: bool = False) -> Callable[[Path], Imported]:
    def read(path: Path) -> Imported:
        if path.suffix == ".npz":
            return read_ifl(path, n_marks, "seconds", (0.0, end)), None
        return layouts.read_jodie(path, by_item=by_item, n_marks=n_marks, end=end), None

    return read


IMPORTERS: dict[str, Callable[[Path], Imported]] = {
    "MIMIC": _mimic,
    "Wiki": _jodie(8227, 2678400.0, by_item=True),
    "Reddit": _jodie(984, 2678400.0),
    "MOOC": _jodie(97, 2572086.0),
    "StackOverflow": _stackoverflow,
    "Uber": lambda path: (layouts.read_foil(path), None),
    "Taxi": lambda path: (layouts.read_tlc(path), None),
}


def import_set(name: str, path: Path) -> Path:
    """Convert a user's file or folder of the set `name` and put it into the data root; returns where.

    Raises ConfigError for a set that has no converter, DatasetError for content that is not that set.
    """
    found = {known.casefold(): known for known in IMPORTERS}.get(name.casefold())
    if found is None:
        raise ConfigError("import", name, f"there are converters for {', '.join(IMPORTERS)}")
    if not path.exists():
        raise DatasetError(path, "does not exist", "give the file or folder of the published set")
    entry = load_manifest().datasets[found].variants["official"]
    sequences, folds = IMPORTERS[found](path)
    check_facts(sequences, entry.shape, {}, path)
    arrays = sequences.to_arrays() | ({"folds": folds} if folds is not None else {})
    target = data_root() / next(file.path for file in entry.files if file.format == "npz")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, buffer.getvalue())
    return target
