"""What makes two jobs the same job: the semantic part of a config, and the run id made from it.

A run id names a job for ever: rerun it, resume it, ship it to a cluster, and it must come out the same;
change anything that changes the numbers, and it must not. So the hash covers the whole config but for the
keys listed here, the SHA-256 of every source file, and the text of a user's model plugin.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Where and how a job runs, never what it computes.
RUNTIME_KEYS = frozenset(
    {
        "accelerator", "callbacks", "command", "device", "devices", "force", "hydra", "launcher", "logger",
        "nodes", "num_workers", "path", "paths", "preflight", "progress", "ray", "resume",
        "runs_dir", "strategy", "tags", "threads", "time_limit", "typical_cpu_seconds", "wandb",
    }
)  # fmt: skip
# In the run id by name, so that the seeds (and folds) of one configuration share its hash.
REPLICATE_KEYS = frozenset({"seed", "fold"})
# `auto` and an explicit variant can mean the same files: the label and their hashes say which they are.
RESOLVED_DATASET_KEYS = frozenset({"variant", "path", "paths", "root"})

# What the family offers, not what this job does: a new trivial model or horizon must not rename every run.
DESCRIPTIVE_TASK_KEYS = frozenset({"protocols", "trivial_models", "ablations", "horizons", "default_horizon"})

_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")
_LONGEST_PART = 60


class IdentityError(ValueError):
    """A config from which no run id can be made; the message names the option."""


def plain(value: Any, where: str = "config") -> Any:
    """`value` as JSON types only: dict, list, str, int, float, bool, None.

    Integral floats become ints (`lr=1` and `lr=1.0` are one job), -0.0 becomes 0, NumPy scalars Python ones.

    Raises:
        IdentityError: for a NaN, an infinity, or a type that has no canonical form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if getattr(value, "ndim", None) == 0:  # a NumPy scalar
        value = value.item()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise IdentityError(f"{where} is {value}: an option must be finite, or null for none")
        return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)
    raise IdentityError(f"{where} is a {type(value).__name__}: options are numbers, strings, lists and mappings")


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, shortest round-trip floats, ASCII only."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def semantic_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a job's config that changes its numbers, as plain JSON types.

    Left out at top level: RUNTIME_KEYS and the seed and fold (they stand in the run id by name); under `dataset`:
    the variant and paths (the label and the files' hashes say what was read); under `task`: lists of what the family
    offers. `model.plugin`, a path, is replaced
    by its file name and SHA-256. A key that is null stays: null and absent may mean different things.

    Raises:
        IdentityError: for a plugin that cannot be read, or a value that has no canonical form.
    """
    kept = {key: value for key, value in cfg.items() if key not in RUNTIME_KEYS | REPLICATE_KEYS}
    if isinstance(kept.get("dataset"), Mapping):
        kept["dataset"] = {k: v for k, v in kept["dataset"].items() if k not in RESOLVED_DATASET_KEYS}
    if isinstance(kept.get("task"), Mapping):
        kept["task"] = {k: v for k, v in kept["task"].items() if k not in DESCRIPTIVE_TASK_KEYS}
    model = kept.get("model")
    if isinstance(model, Mapping) and model.get("plugin"):
        kept["model"] = {**model, "plugin": _plugin(model["plugin"])}
    return plain(kept)


def _plugin(value: Any) -> Any:
    if isinstance(value, Mapping):  # a config that went through semantic_config before
        return value
    path = Path(str(value))
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise IdentityError(
            f"model.plugin={value}: cannot be read ({error.strerror}); give the path of a Python file that registers"
            " the attention"
        ) from error
    return {"file": path.name, "sha256": digest}


def config_hash(cfg: Mapping[str, Any], label: str, source_sha256: Mapping[str, str]) -> str:
    """SHA-256 (64 hex) of the semantic config, the dataset's label and its source files' hashes by role.

    All seeds and folds of one configuration share it; records of different hashes are never averaged.
    """
    identity = {"config": semantic_config(cfg), "label": label, "sources": dict(source_sha256)}
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def run_id(cfg: Mapping[str, Any], label: str, source_sha256: Mapping[str, str]) -> str:
    """`<family>-<label>[-h<horizon>]-<model>-s<seed>[-f<fold>]-<8 hex>`, safe as a file name.

    Args:
        cfg: the job's config with `task.family`, `task.protocol_version`, `model.name`, `protocol` and `seed`.
        label: how the dataset is printed, `Resolved.label`; a slash becomes a hyphen.
        source_sha256: role -> SHA-256 of the source files; empty for generated data.

    Raises:
        IdentityError: for a missing key, or a value that has no canonical form.
    """
    family, model = _required(cfg, "task", "family"), _required(cfg, "model", "name")
    _required(cfg, "task", "protocol_version")
    _required(cfg, "protocol")
    seed, horizon, fold = _required(cfg, "seed"), cfg.get("horizon"), cfg.get("fold")
    parts = [_safe(family), _safe(label)]
    parts += [f"h{horizon}"] if horizon is not None else []
    parts += [_safe(model), f"s{int(seed)}"]
    parts += [f"f{_safe(fold)}"] if fold is not None else []
    return "-".join([*parts, config_hash(cfg, label, source_sha256)[:8]])


def _required(cfg: Mapping[str, Any], *keys: str) -> Any:
    value: Any = cfg
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        raise IdentityError(f"the config has no {'.'.join(keys)}: a run id cannot be made without it")
    return value


def _safe(value: Any) -> str:
    return _UNSAFE.sub("-", str(value)).strip("-.")[:_LONGEST_PART] or "unnamed"
