"""Where a dataset is: in the data root, in an installed package, where `scripts/data.py get` put it, or nowhere."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import platformdirs

from tasks.errors import ConfigError, DatasetError, DatasetUnavailable, near_misses
from tasks.suite import manifest
from tasks.suite.manifest import DatasetEntry, FileEntry, VariantEntry


@dataclass(frozen=True)
class Resolved:
    """A dataset found: which variant, and the files it is read from.

    `files` and `sha256` go by role (`series`; `train`, `test`; `events`). From `resolve`, `sha256` holds the
    hashes that the manifest requires; from `verified`, those measured for every file, which identities must use.
    `source` is `data root`, `download`, `d4rl`, the name of a package, or `generated`.
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
        """The name to print: `ETTh1`, or `Uber-sample` where the variant is not the official set.

        A set that is synthetic by definition (Sin, `known/`) has no official one to be told from: it keeps its
        name.
        """
        known = manifest.load_manifest().datasets.get(self.dataset)
        if self.variant == "official" or (known and "official" not in known.variants):
            return self.dataset
        return f"{self.dataset}-{self.variant}"


def data_root() -> Path:
    """`$AAREN_DATA`, else `data/` in the project: the checkout, or the working folder of an installed copy."""
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
    """Where `get` puts a download when the data root is read-only."""
    return cache_root() / "downloads"


def has_reader(family: str) -> bool:
    """Whether this version can read the family's files, found without importing the family."""
    return (Path(__file__).resolve().parent / family / "data.py").is_file()


def places(entry: FileEntry) -> Iterator[tuple[Path, str]]:
    """Every place that may hold this file, present or not, and the place's name, in order of search."""
    if entry.package:
        # find_spec of a top-level name looks the package up without running it: sktime alone takes seconds
        spec = importlib.util.find_spec(entry.package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / entry.path, _distribution(entry.package)
        return
    yield data_root() / entry.path, "data root"
    yield download_root() / entry.path, "download"
    if entry.format == "hdf5":  # the folder in which the d4rl package itself keeps what it downloads
        own = Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()
        yield own / Path(entry.path).name, "d4rl"


def locate(entry: FileEntry) -> tuple[Path, str] | None:
    """The first place that holds this file, and that place's name; None if no place does."""
    # os.path.isfile, unlike Path.is_file, is False where a folder may not be entered
    return next(((path, place) for path, place in places(entry) if os.path.isfile(path)), None)


def resolve(dataset: str, variant: str = "auto") -> Resolved:
    """Find a dataset by name (any case): `auto` takes the official variant if ready, else the best one that is.

    Fast: looks at existence and size only; `verified` hashes. Raises `UnknownDataset`, `ConfigError` (a variant
    that the dataset does not have), `DatasetUnavailable` (no file anywhere, with the one step that mends it) or
    `DatasetError` (a file is there but its size is wrong: that is reported, not passed over for another variant).
    """
    found = manifest.load_manifest().find(dataset)
    if variant != "auto" and variant not in found.variants:
        near = near_misses(variant, found.variants)
        hint = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(("auto", *found.variants))
        raise ConfigError("dataset.variant", variant, f"{found.name} has no such variant; {hint}Known: {known}")
    wanted = tuple(found.variants.values()) if variant == "auto" else (found.variants[variant],)
    for entry in wanted:
        ready = _find_variant(found, entry)
        if ready:
            return ready
    first = wanted[0]
    root = data_root()
    paths = [root / file.path for file in first.files if not file.package]
    reason = f"{found.name} ({first.name}) was not found"
    if not root.is_dir():
        reason += f"; the data root {root} does not exist"
    raise DatasetUnavailable(paths[0] if paths else root, reason, how_to_get(found, first))


def how_to_get(found: DatasetEntry, entry: VariantEntry) -> str:
    """The one step that would make this variant ready."""
    if can_fetch(entry):
        return f"python scripts/data.py get {found.name}"
    packages = [file.package for file in entry.files if file.package]
    if packages and not entry.fix:
        return f"install the package {_distribution(packages[0])}"
    return entry.fix or f"put {', '.join(file.path for file in entry.files)} into the data root"


def how_to_mend(found: DatasetEntry, entry: VariantEntry, file: FileEntry | None) -> str:
    """The one step that replaces a damaged file."""
    if file and file.package:
        return f"reinstall the package {_distribution(file.package)} (pip install --force-reinstall)"
    if can_fetch(entry):
        return f"python scripts/data.py get {found.name} --force sets it aside and fetches it again"
    return f"replace it by hand: {how_to_get(found, entry)}"


def _distribution(package: str) -> str:
    """What one installs to have a package."""
    return "aaren" if package == "tasks" else package.replace("_", "-")


def can_fetch(entry: VariantEntry) -> bool:
    """Whether a script can download this variant: every file of a layout, or an archive of it, has an address."""
    return bool(entry.archives) or any(all(file.urls for file in layout) for layout in entry.layouts)


def _find_variant(found: DatasetEntry, entry: VariantEntry) -> Resolved | None:
    if not entry.files:
        if entry.name != "synthetic":
            return None
        return Resolved(found.name, found.family, entry.name, {}, {}, "generated", entry)
    for layout in entry.layouts:
        located = {file.role: where for file in layout if (where := locate(file))}
        if len(located) < len(layout):
            continue
        for file in layout:
            problem = _wrong_size(path := located[file.role][0], file)
            if problem:
                raise DatasetError(path, problem, how_to_mend(found, entry, file))
        return Resolved(
            found.name,
            found.family,
            entry.name,
            files=MappingProxyType({role: path for role, (path, _) in located.items()}),
            sha256=MappingProxyType({f.role: f.sha256 for f in layout if f.sha256 and f.check == "strict"}),
            source=located[layout[0].role][1],
            entry=entry,
            entries=MappingProxyType({file.role: file for file in layout}),
        )
    return None


def _wrong_size(path: Path, entry: FileEntry) -> str | None:
    size = path.stat().st_size
    if size == 0:
        return "is empty"
    if entry.check == "strict" and entry.bytes is not None and size != entry.bytes:
        word = "truncated or altered" if size < entry.bytes else "altered"
        return f"has {size} bytes, not {entry.bytes}: it is {word}"
    return None
