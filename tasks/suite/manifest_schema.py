"""The manifest's schema: raw YAML becomes the dataclasses of `tasks.suite.manifest`, or an error names the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import yaml

from tasks.conffiles import Loader
from tasks.suite.manifest import (
    CHECKS,
    FAMILIES,
    FORMATS,
    VARIANTS,
    ArchiveEntry,
    DatasetEntry,
    FileEntry,
    Manifest,
    ManifestError,
    VariantEntry,
)


class UniqueKeyLoader(Loader):
    """The safe loader, and a key given twice is an error instead of a silent override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for position, key in enumerate(keys) if key in keys[:position]), None)
        if twice is not None:
            raise ManifestError(f"line {node.start_mark.line + 1}: the key {twice!r} appears twice")
        return super().construct_mapping(node, deep)


def parse(raw: Any) -> Manifest:
    """The checked manifest; `ManifestError` names the field that is wrong and what was expected."""
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
        name: _entries(FileEntry, items, f"materials.{name}")
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
    files = _entries(FileEntry, row.get("files", []), f"{where}.files")
    archives = _entries(ArchiveEntry, row.get("archives", []), f"{where}.archives")
    roles = [(entry.format, entry.package, entry.role) for entry in files]
    if len(set(roles)) != len(roles):
        raise ManifestError(f"{where}.files: a role appears twice in one format")
    classes = row.get("classes")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise ManifestError(f"{where}.classes: expected a whole number or null, got {classes!r}")
    labels = tuple(_text(label, f"{where}.labels") for label in _sequence(row.get("labels", []), f"{where}.labels"))
    if labels and len(labels) != classes:
        raise ManifestError(f"{where}.labels: {len(labels)} labels for {classes} classes")
    texts = {key: _text(row.get(key, ""), f"{where}.{key}") for key in ("licence", "note", "fix")}
    if not texts["licence"]:
        raise ManifestError(f"{where}.licence: missing; write 'none stated' if none is")
    return VariantEntry(
        name,
        licence=texts["licence"],
        shape=MappingProxyType(shape),
        files=files,
        archives=archives,
        classes=classes,
        labels=labels,
        statistics=MappingProxyType(_mapping(row.get("statistics", {}), f"{where}.statistics")),
        note=texts["note"],
        fix=texts["fix"],
    )


def _entries(kind: type, raw: Any, where: str) -> tuple:
    return tuple(_entry(kind, item, f"{where}[{i}]") for i, item in enumerate(_sequence(raw, where)))


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
    row["urls"] = tuple(_text(url, f"{where}.urls") for url in _sequence(row.get("urls", []), f"{where}.urls"))
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
