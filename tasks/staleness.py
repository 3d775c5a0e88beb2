"""Whether a record still says what the project would compute: its command composed again, under today's configs.

Needs Hydra, but neither torch nor the data: the data's hashes are the record's own.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tasks.jobconfig import prepare
from tasks.suite.identity import config_hash

_PUT_IN_BY_HAND = ("model", "seed", "horizon", "fold")  # so that a dataset's config is composed once, not once a job
_RERUN = "run its command again and gather the records anew"


def protocol_versions(conf: Path) -> dict[str, int]:
    """family -> the version its protocol has now."""
    files = sorted((conf / "task").glob("*.yaml"))
    return {path.stem: int(yaml.safe_load(path.read_text(encoding="utf-8"))["protocol_version"]) for path in files}


def stale(records: Sequence[Mapping[str, Any]], conf: Path) -> dict[str, str]:
    """run id -> why its numbers are not those of today's protocol or config, and the way out; fresh ones left out."""
    versions = protocol_versions(conf)
    found: dict[str, str] = {}
    bases: dict[tuple[str, ...], dict[str, Any] | str] = {}
    with initialize_config_dir(version_base="1.3", config_dir=str(conf.absolute())):
        for record in records:
            reason = _of_another_version(record, versions) or _of_another_config(record, conf, bases)
            if reason:
                found[record["run_id"]] = reason
    return found


def _of_another_version(record: Mapping[str, Any], versions: Mapping[str, int]) -> str:
    now, then = versions.get(record["family"]), record["protocol_version"]
    if now is None:
        return f"there is no family {record['family']} (any more); remove the record"
    if then > now:
        return f"protocol version {then} is newer than this project's {now}; use the project version that wrote it"
    return f"protocol version {then}, now {now}: its numbers mean something else; {_RERUN}" if then < now else ""


def _of_another_config(
    record: Mapping[str, Any], conf: Path, bases: dict[tuple[str, ...], dict[str, Any] | str]
) -> str:
    if not record["command"]:
        return f"it names no command, so its config cannot be checked; {_RERUN}"
    overrides = [part for part in shlex.split(record["command"]) if "=" in part]
    given = dict(part.split("=", 1) for part in overrides)
    by_hand = not any(part.startswith("model.") for part in overrides)
    shared = tuple(part for part in overrides if not (by_hand and part.partition("=")[0] in _PUT_IN_BY_HAND))
    if shared not in bases:
        bases[shared] = _composed(shared)
    base = bases[shared]
    if isinstance(base, str):
        return f"its command can no longer be composed ({base}); {_RERUN}"
    job = copy.deepcopy(base)
    if by_hand:
        model = given.get("model", record["model"])
        path = conf / "model" / f"{model}.yaml"
        if not path.is_file():
            return f"there is no model {model} (any more); {_RERUN}"
        job["model"] = yaml.safe_load(path.read_text(encoding="utf-8"))
    job |= {key: record[key] for key in ("seed", "horizon", "fold")}
    try:
        now = config_hash(prepare(job), record["label"], record["data"]["sha256"])
    except ValueError as error:
        return f"its command no longer makes a job ({error}); {_RERUN}"
    return "" if now == record["config_hash"] else f"the configs of its command have changed since; {_RERUN}"


def _composed(overrides: Sequence[str]) -> dict[str, Any] | str:
    """The plain config, or what Hydra says against the overrides."""
    try:
        plain = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
    except Exception as error:  # Hydra raises its own classes, OmegaConf others: all mean that the command is outdated
        return str(error).splitlines()[0]
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
