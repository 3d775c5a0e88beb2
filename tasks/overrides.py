"""Command-line overrides checked before Hydra sees them: names in any case, near misses for the unknown ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.conffiles import is_global, read_yaml
from tasks.errors import ConfigError, UnknownDataset, near_misses
from tasks.suite.manifest import without_version
from tasks.suite.sanitise import has_login

# Groups whose options a user names; hydra's own are hydra's to check.
_CODE = ("_target_", "_partial_", "!!python")  # what Hydra or YAML would take for a call
GROUPS = ("dataset", "model", "profile", "logger", "experiment", "runtime")


def options(conf: Path, group: str) -> list[str]:
    """The choices of a config group, as they are typed: `ETTh1`, `known/seasonal`."""
    folder = conf / group
    depth = "**/*.yaml" if group == "dataset" else "*.yaml"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob(depth))


def check_overrides(arguments: Sequence[str], conf: Path) -> list[str]:
    """The same arguments with the names of choices in their own case.

    Raises:
        UnknownDataset, ConfigError: an unknown choice or option, with near misses and what there is; an option that
            names code to run, reads the environment, or holds a password.
    """
    checked, keys = [], set(_known_keys(conf))
    for argument in arguments:
        key, equals, value = argument.partition("=")
        _refuse_unsafe(argument, key)
        if argument.startswith("-") or not equals or key.startswith(("hydra", "+", "~")):
            checked.append(argument)
        elif key in GROUPS:
            checked.append(f"{key}={_checked_choices(key, value, options(conf, key))}")
        elif key in keys or "@" in key:
            checked.append(argument)
        else:
            near = near_misses(key, keys)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            known = ", ".join(sorted({k.partition(".")[0] for k in keys}))
            raise ConfigError(key, value, f"no such option; {hint}The options are under: {known}; see --cfg job")
    return checked


def _refuse_unsafe(argument: str, key: str) -> None:
    """Options are values: they go into records, into W&B and into the folders of sweeps, and are never called."""
    if any(word in argument for word in _CODE):
        reason = (
            "names code to be called; jobs are made of values only (a model of your own: model=custom model.plugin=)"
        )
        raise ConfigError(key, "...", reason)
    if "oc.env" in argument:
        raise ConfigError(
            key, "...", "reads an environment variable, which would end up in the record; write the value"
        )
    if has_login(argument):
        reason = "holds an address with a user and a password, which would end up in the record; leave them out"
        raise ConfigError(key, "...", reason)


def _checked_choices(group: str, value: str, known: Sequence[str]) -> str:
    if value in ("null", "") or "(" in value or value.startswith(("{", "$")):
        return value  # glob(*), choice(...): Hydra expands these from what there is
    folded = {name.casefold(): name for name in known}
    names = [part.strip().strip("'\"") for part in value.strip("[]").split(",")]
    if group == "dataset":
        names = [name if name.casefold() in folded else without_version(name) for name in names]
    for name in names:
        if name.casefold() not in folded:
            if group == "dataset":
                raise UnknownDataset(name, known)
            near = near_misses(name, known)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(group, name, f"no such {group}; {hint}Known: {', '.join(known)}")
    return ",".join(folded[name.casefold()] for name in names)


def _known_keys(conf: Path) -> Iterator[str]:
    """Every dotted key that some choice of the config tree defines, and the keys above it."""
    yield from _keys_of(conf / "train.yaml", "")
    for path in conf.rglob("*.yaml"):
        group = path.relative_to(conf).parts[0]
        if group in ("task", "dataset", "model", "logger"):
            yield from _keys_of(path, group)
        elif group == "profile" and path.parent != conf / "profile":
            yield from _keys_of(path, "task")
        elif group == "runtime":
            yield from _keys_of(path, "")


def _keys_of(path: Path, prefix: str) -> Iterable[str]:
    own = {key: value for key, value in read_yaml(path).items() if key not in ("defaults", "hydra")}
    return _flatten(own, "" if is_global(path) else prefix)


def _flatten(content: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in content.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        yield name
        if isinstance(value, Mapping):
            yield from _flatten(value, name)
