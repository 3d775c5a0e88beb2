"""Where a dataset is: the data root, then what installed packages embed, then what `scripts/data.py get` fetched."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import platformdirs

from tasks.errors import ConfigError, DatasetError, DatasetUnavailable, near_misses
from tasks.files import FETCH_AGAIN
from tasks.suite.manifest import VARIANTS, DatasetEntry, FileEntry, VariantEntry, load_manifest

# Sets that are synthetic by definition keep their plain name: there is no official one that they stand in for.
GENERATED = "generated"


@dataclass(frozen=True)
class Resolved:
    """A dataset found: which variant, and the files it is read from.

    `files` and `sha256` go by role (`series`; `train`, `test`; `events`). From `resolve`, `sha256` holds the hashes that
    the manifest requires; from `verified`, those measured for every file (identities must use these). `source` is
    `data root`, a package's name, `download` or `generated`.
    """

    dataset: str
    family: str
    variant: str
    files: Mapping[str, Path]
    sha256: Mapping[str, str]
    source: str
    entry: VariantEntry
    entries: Mapping[str, FileEntry] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name to print: `ETTh1`, or `Uber-sample` where the variant is not the official set."""
        if self.variant == "official" or "official" not in load_manifest().datasets[self.dataset].variants:
            return self.dataset
        return f"{self.dataset}-{self.variant}"


def data_root() -> Path:
    """`$AAREN_DATA`, else `data/` in the project: beside the checkout's pyproject.toml, else in the working folder."""
    if os.environ.get("AAREN_DATA"):
        return Path(os.environ["AAREN_DATA"]).expanduser().absolute()
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "data"


def cache_root() -> Path:
    """`$AAREN_CACHE`, else the user's cache folder."""
    if os.environ.get("AAREN_CACHE"):
        return Path(os.environ["AAREN_CACHE"]).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("aaren"))


def download_root() -> Path:
    """Where `get` puts a download when the data root cannot be written."""
    return cache_root() / "downloads"


def package_root(package: str) -> Path | None:
    """The folder of an installed package, found without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


def locate(entry: FileEntry) -> tuple[Path, str] | None:
    """The first place that holds this file, and that place's name; None if no place does."""
    if entry.package:
        folder = package_root(entry.package)
        places = [(folder, entry.package.replace("_", "-"))] if folder else []
    else:
        places = [(data_root(), "data root"), (download_root(), "download")]
        if entry.format == "hdf5":  # the folder that D4RL's own package keeps its downloads in
            own = Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()
            places.append((own, "d4rl"))
    for folder, place in places:
        path = folder / (Path(entry.path).name if place == "d4rl" else entry.path)
        if path.is_file():
            return path, place
    return None


def resolve(dataset: str, variant: str = "auto") -> Resolved:
    """Find a dataset by name (any case): `auto` takes the official variant if ready, else the best one that is.

    Fast: looks at existence and size only; `verified` hashes. Raises `UnknownDataset`, `ConfigError` (a variant that the
    dataset does not have), `DatasetUnavailable` (no file anywhere, with the one step that mends it) or `DatasetError` (a
    file is there but its size is wrong: it is reported, not passed over for another variant).
    """
    found = load_manifest().find(dataset)
    if variant != "auto" and variant not in found.variants:
        known = ", ".join(("auto", *found.variants))
        near = near_misses(variant, found.variants)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            "dataset.variant", variant, f"{found.name} has no such variant; {hint}Known: {known}"
        )
    wanted = found.variants.values() if variant == "auto" else (found.variants[variant],)
    for entry in wanted:
        ready = _find_variant(found, entry)
        if ready:
            return ready
    first = next(iter(wanted))
    raise DatasetUnavailable(
        _expected_place(first), f"{found.name} ({first.name}) was not found", how_to_get(found, first)
    )


def how_to_get(found: DatasetEntry, entry: VariantEntry) -> str:
    """The one step that would make this variant ready."""
    if entry.archives or any(file.urls for file in entry.files):
        return f"python scripts/data.py get {found.name}"
    packages = [file.package for file in entry.files if file.package]
    if packages and not entry.fix:
        return f"install the package {packages[0].replace('_', '-')}"
    return entry.fix


def _find_variant(found: DatasetEntry, entry: VariantEntry) -> Resolved | None:
    if not entry.files:
        if entry.name != "synthetic":
            return None
        return Resolved(
            found.name, found.family, entry.name, MappingProxyType({}), MappingProxyType({}), GENERATED, entry
        )
    for layout in entry.layouts:
        places = {file.role: located for file in layout if (located := locate(file))}
        if len(places) < len(layout):
            continue
        for file in layout:
            _check_size(places[file.role][0], file)
        return Resolved(
            found.name,
            found.family,
            entry.name,
            files=MappingProxyType({role: path for role, (path, _) in places.items()}),
            sha256=MappingProxyType({f.role: f.sha256 for f in layout if f.sha256 and f.check == "strict"}),
            source=places[layout[0].role][1],
            entry=entry,
            entries=MappingProxyType({file.role: file for file in layout}),
        )
    return None


def _check_size(path: Path, entry: FileEntry) -> None:
    size = path.stat().st_size
    if size == 0:
        raise DatasetError(path, "is empty", FETCH_AGAIN)
    if entry.check == "strict" and entry.bytes is not None and size != entry.bytes:
        word = "truncated or altered" if size < entry.bytes else "altered"
        raise DatasetError(path, f"has {size} bytes, not {entry.bytes}: it is {word}", FETCH_AGAIN)


def _expected_place(entry: VariantEntry) -> Path:
    root = data_root()
    paths = [file.path for file in entry.files if not file.package]
    return root / paths[0] if paths else root


__all__ = [
    "GENERATED",
    "VARIANTS",
    "Resolved",
    "cache_root",
    "data_root",
    "download_root",
    "locate",
    "resolve",
]
