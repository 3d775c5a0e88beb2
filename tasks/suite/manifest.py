"""What the 38 datasets are: the facts of `tasks/manifest.yaml` as frozen dataclasses, checked field by field.

Free of torch and numpy. A dataset has one row per variant; a variant lists the files it can be read from. Files of one
`format` form a layout (say TRAIN and TEST of an archive), and layouts of a variant are alternatives in order of
preference: a reader never gets TRAIN of one and TEST of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import UnknownDataset

MANIFEST_PATH = Path(__file__).resolve().parent.parent / "manifest.yaml"
FAMILIES = ("forecasting", "classification", "events", "rl")
VARIANTS = (
    "official",
    "partial",
    "sample",
    "stand_in",
    "surrogate",
    "synthetic",
)  # in auto's order of preference
FORMATS = ("parquet", "csv", "ts.xz", "ts", "arff", "hdf5", "npz")
CHECKS = ("strict", "warn")
OURS = ("known/", "extra/")  # sets outside the paper's 38


def without_version(name: str) -> str:
    """D4RL's users know `hopper-medium` as `hopper-medium-v2`; there is no other version of it here."""
    robot = name.partition("-")[0].casefold()
    return name.removesuffix("-v2") if robot in ("halfcheetah", "ant", "hopper", "walker2d") else name


class ManifestError(ValueError):
    """The manifest breaks its schema: the message names the file, the field and what was expected."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a layout.

    `path` is relative to the data root, or to the installed package named by `package`. `check` says what a hash that
    differs means: `strict` an error, `warn` a warning (the official bytes are not known for certain; the shape still
    decides). `git_blob` is SHA-1 over `blob <length>\\0` + bytes, where that is the only fingerprint published.
    """

    role: str
    format: str
    path: str
    bytes: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    check: str = "strict"
    urls: tuple[str, ...] = ()
    package: str | None = None


@dataclass(frozen=True)
class ArchiveEntry:
    """A zip that holds the files of one layout, found in it by file name."""

    path: str
    format: str
    bytes: int | None = None
    sha256: str | None = None
    check: str = "strict"
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class VariantEntry:
    """The facts of one variant of one dataset.

    `shape` holds named sizes (`rows`, `channels`, `train`, `test`, `length_max`, `sequences`, `events` ...), `classes`
    the number of classes or marks, `labels` their names where they are fixed, `statistics` what a correct reading must
    give. `fix` is the manual step where no script can fetch the data.
    """

    name: str
    licence: str
    shape: Mapping[str, int]
    files: tuple[FileEntry, ...] = ()
    archives: tuple[ArchiveEntry, ...] = ()
    classes: int | None = None
    labels: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    fix: str = ""

    @property
    def layouts(self) -> tuple[tuple[FileEntry, ...], ...]:
        """The alternatives, best first: each is all files of one format and package."""
        groups: dict[tuple[str, str | None], list[FileEntry]] = {}
        for entry in self.files:
            groups.setdefault((entry.format, entry.package), []).append(entry)
        return tuple(tuple(group) for group in groups.values())


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset of the manifest: its command-line name, its family, and its variants in order of preference."""

    name: str
    family: str
    variants: Mapping[str, VariantEntry]

    @property
    def is_main(self) -> bool:
        """True for the paper's 38, False for the sets of `known/` and `extra/`."""
        return not self.name.startswith(OURS)


@dataclass(frozen=True)
class Manifest:
    """All datasets by name, and `materials`: files that are no dataset but that datasets are made from."""

    datasets: Mapping[str, DatasetEntry]
    materials: Mapping[str, tuple[FileEntry, ...]]

    def find(self, name: str) -> DatasetEntry:
        """The dataset of this name, whatever its case; `UnknownDataset` with near misses otherwise."""
        folded = {known.casefold(): known for known in self.datasets}
        wanted = without_version(name.casefold())
        if wanted not in folded:
            raise UnknownDataset(name, self.datasets)
        return self.datasets[folded[wanted]]

    @property
    def main(self) -> tuple[str, ...]:
        """The names of the paper's 38 datasets, in the order of its tables."""
        return tuple(name for name, entry in self.datasets.items() if entry.is_main)


def read_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """Read and check a manifest file; `ManifestError` names the file and the field."""
    from tasks.suite import manifest_schema

    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.load(text, manifest_schema.UniqueKeyLoader)  # a SafeLoader: tags make no objects
    except (yaml.YAMLError, ManifestError, UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"{path}: not a readable manifest: {error}") from error
    try:
        return manifest_schema.parse(raw)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


@cache
def load_manifest() -> Manifest:
    """The project's own manifest, read once per process."""
    return read_manifest()
