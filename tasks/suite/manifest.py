"""What the 38 datasets are: the facts of `tasks/manifest.yaml` as frozen dataclasses, checked field by field.

Free of torch and numpy. A dataset has one row per variant; a variant lists the files it can be read from. Files of one
`format` form a layout (say TRAIN and TEST of an archive), and layouts of a variant are alternatives in order of
preference: a reader never gets TRAIN of one and TEST of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
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
        if name.casefold() not in folded:
            raise UnknownDataset(name, self.datasets)
        return self.datasets[folded[name.casefold()]]

    @property
    def main(self) -> tuple[str, ...]:
        """The names of the paper's 38 datasets, in the order of its tables."""
        return tuple(name for name, entry in self.datasets.items() if entry.is_main)


class _UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """The safe loader, and a key given twice is an error instead of a silent override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for position, key in enumerate(keys) if key in keys[:position]), None)
        if twice is not None:
            raise ManifestError(f"line {node.start_mark.line + 1}: the key {twice!r} appears twice")
        return super().construct_mapping(node, deep)


def read_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """Read and check a manifest file; `ManifestError` names the file and the field."""
    try:
        raw = yaml.load(
            path.read_text(encoding="utf-8"), _UniqueKeyLoader
        )  # a SafeLoader: no objects from tags
    except (yaml.YAMLError, ManifestError, UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"{path}: not a readable manifest: {error}") from error
    try:
        return _parse(raw)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


@cache
def load_manifest() -> Manifest:
    """The project's own manifest, read once per process."""
    return read_manifest()


def _parse(raw: Any) -> Manifest:
    top = _mapping(raw, "the file")
    _known_keys(top, ("datasets", "materials"), "the file")
    datasets = {}
    for name, row in _mapping(top.get("datasets"), "datasets").items():
        row = _mapping(row, name)
        _known_keys(row, ("family", "variants"), name)
        family = _choice(row.get("family"), FAMILIES, f"{name}.family")
        variants = _mapping(row.get("variants"), f"{name}.variants")
        if not variants:
            raise ManifestError(f"{name}.variants: at least one variant is needed")
        parsed = {
            _choice(key, VARIANTS, f"{name}.variants"): _variant(key, value, f"{name}.variants.{key}")
            for key, value in variants.items()
        }
        ordered = {key: parsed[key] for key in VARIANTS if key in parsed}
        datasets[name] = DatasetEntry(name, family, MappingProxyType(ordered))
    materials = {
        name: tuple(_entry(FileEntry, item, f"materials.{name}[{i}]") for i, item in enumerate(items))
        for name, items in _mapping(top.get("materials", {}), "materials").items()
    }
    return Manifest(MappingProxyType(datasets), MappingProxyType(materials))


def _variant(name: str, raw: Any, where: str) -> VariantEntry:
    row = _mapping(raw, where)
    _known_keys(row, [f.name for f in fields(VariantEntry) if f.name != "name"], where)
    shape = _mapping(row.get("shape"), f"{where}.shape")
    for key, size in shape.items():
        if type(size) is not int or size < 0:
            raise ManifestError(f"{where}.shape.{key}: expected a whole number, got {size!r}")
    lists = {
        key: tuple(
            _entry(kind, item, f"{where}.{key}[{i}]")
            for i, item in enumerate(_sequence(row.get(key, []), f"{where}.{key}"))
        )
        for key, kind in (("files", FileEntry), ("archives", ArchiveEntry))
    }
    roles = [(entry.format, entry.package, entry.role) for entry in lists["files"]]
    if len(set(roles)) != len(roles):
        raise ManifestError(f"{where}.files: a role appears twice in one format")
    classes = row.get("classes")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise ManifestError(f"{where}.classes: expected a whole number or null, got {classes!r}")
    labels = tuple(
        _text(label, f"{where}.labels") for label in _sequence(row.get("labels", []), f"{where}.labels")
    )
    if labels and len(labels) != classes:
        raise ManifestError(f"{where}.labels: {len(labels)} labels for {classes} classes")
    texts = {key: _text(row.get(key, ""), f"{where}.{key}") for key in ("licence", "note", "fix")}
    if not texts["licence"]:
        raise ManifestError(f"{where}.licence: missing; write 'none stated' if none is")
    statistics = MappingProxyType(_mapping(row.get("statistics", {}), f"{where}.statistics"))
    return VariantEntry(
        name,
        shape=MappingProxyType(shape),
        classes=classes,
        labels=labels,
        statistics=statistics,
        **lists,
        **texts,
    )


def _entry(kind: type, raw: Any, where: str) -> Any:
    """One file or archive row, with every field checked for type, form and safety of its path."""
    row = dict(_mapping(raw, where))
    names = [f.name for f in fields(kind)]
    _known_keys(row, names, where)
    for key in ("role", "format", "path"):
        if key in names and not _text(row.get(key), f"{where}.{key}"):
            raise ManifestError(f"{where}.{key}: missing")
    _choice(row["format"], FORMATS, f"{where}.format")
    _choice(row.get("check", "strict"), CHECKS, f"{where}.check")
    path = PurePosixPath(row["path"])
    if path.is_absolute() or ".." in path.parts or "\\" in row["path"] or str(path) != row["path"]:
        raise ManifestError(f"{where}.path: {row['path']!r} is not a plain relative path")
    for key, length in (("sha256", 64), ("git_blob", 40)):
        digest = row.get(key)
        if digest is not None and not _is_hex(digest, length):
            raise ManifestError(f"{where}.{key}: expected {length} lower-case hex digits, got {digest!r}")
    size = row.get("bytes")
    if size is not None and (type(size) is not int or size < 1):
        raise ManifestError(f"{where}.bytes: expected a positive whole number, got {size!r}")
    if row.get("check", "strict") == "strict" and row.get("sha256") is None:
        raise ManifestError(f"{where}.sha256: missing, and check is strict")
    row["urls"] = tuple(
        _text(url, f"{where}.urls") for url in _sequence(row.get("urls", []), f"{where}.urls")
    )
    for url in row["urls"]:
        if not url.startswith(("https://", "http://")):
            raise ManifestError(f"{where}.urls: {url!r} is no http address")
    return kind(**row)


def _is_hex(value: Any, length: int) -> bool:
    return isinstance(value, str) and len(value) == length and set(value) <= set("0123456789abcdef")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ManifestError(f"{where}: expected a mapping with names as keys, got {type(value).__name__}")
    return value


def _sequence(value: Any, where: str) -> list:
    if not isinstance(value, list):
        raise ManifestError(f"{where}: expected a list, got {type(value).__name__}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ManifestError(f"{where}: expected text, got {value!r}")
    return value


def _choice(value: Any, options: tuple[str, ...], where: str) -> str:
    if value not in options:
        raise ManifestError(f"{where}: {value!r} is none of {', '.join(options)}")
    return value


def _known_keys(row: Mapping[str, Any], known: Any, where: str) -> None:
    extra = [key for key in row if key not in known]
    if extra:
        raise ManifestError(f"{where}: unknown field {extra[0]!r}; known: {', '.join(known)}")
