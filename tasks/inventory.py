"""What is there: the state of every dataset (`status`), and of every file of the data root (`verify`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import DatasetError, DatasetUnavailable
from tasks.locate import data_root, has_reader, how_to_get, how_to_mend, places, resolve
from tasks.suite import manifest
from tasks.suite.manifest import ArchiveEntry, FileEntry
from tasks.verify import check_file


@dataclass(frozen=True)
class Status:
    """One dataset: `state` is `ready`, `damaged`, `missing` or `no reader`; `step` is what would mend or better it."""

    name: str
    family: str
    state: str
    variant: str
    source: str
    step: str


@dataclass(frozen=True)
class Checked:
    """One file that is there: `state` is `ok`, `unknown` (no official hash, or a tolerated difference) or `bad`."""

    name: str
    path: Path
    state: str
    detail: str = ""


def select(names: Iterable[str]) -> list[str]:
    """Datasets by name, family or `all`, in the manifest's order; none given means all. `UnknownDataset` if unknown."""
    known = manifest.load_manifest()
    wanted: set[str] = set()
    for name in names:
        family = [n for n, entry in known.datasets.items() if name.casefold() in (entry.family, "all")]
        wanted.update(family or [known.find(name).name])
    return [name for name in known.datasets if name in wanted or not wanted]


def status(name: str) -> Status:
    """The state of one dataset, without hashing. Raises `UnknownDataset`."""
    found = manifest.load_manifest().find(name)
    best = next(iter(found.variants.values()))
    unread = "" if has_reader(found.family) else f"this version cannot read {found.family} data yet"
    try:
        ready = resolve(found.name)
    except DatasetUnavailable as error:
        step = f"{error.fix} ({unread})" if unread else error.fix
        return Status(found.name, found.family, "missing", best.name, "", step)
    except DatasetError as error:
        return Status(found.name, found.family, "damaged", best.name, error.path, f"{error.reason}: {error.fix}")
    state, step = "ready", ""
    if unread:
        state, step = "no reader", unread
    elif ready.variant != best.name:
        step = f"{best.name}: {how_to_get(found, best)}"
    return Status(found.name, found.family, state, ready.variant, ready.source, step)


def verify(names: Iterable[str]) -> Iterator[Checked]:
    """Hash every file of these datasets that is there, wherever it is, whatever was hashed before."""
    known = manifest.load_manifest()
    names = list(names)
    for name in names:
        for variant in known.datasets[name].variants.values():
            for file in variant.files:
                fix = how_to_mend(known.datasets[name], variant, file)
                yield from (_check(name, path, file, fix) for path, _ in places(file) if path.is_file())
            for archive in variant.archives:
                path = data_root() / archive.path
                if path.is_file():
                    yield _check(name, path, archive, how_to_mend(known.datasets[name], variant, None))
    if len(names) == len(known.datasets):
        for name, files in known.materials.items():
            for file in files:
                path = data_root() / file.path
                if path.is_file():
                    yield _check(name, path, file, f"replace it by a fresh copy from {' or '.join(file.urls)}")


def _check(name: str, path: Path, entry: FileEntry | ArchiveEntry, fix: str) -> Checked:
    try:
        _, warning = check_file(path, entry, fresh=True)
    except DatasetError as error:
        return Checked(name, path, "bad", f"{error.reason}. Fix: {fix}")
    return Checked(name, path, "unknown" if warning else "ok", (warning or "").removeprefix(f"{path}: "))
