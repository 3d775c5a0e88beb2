"""A file of `conf/` read by itself, without Hydra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

try:  # libyaml's parser takes a sixth of the time, and the manifest is read by every job
    from yaml import CSafeLoader as Loader
except ImportError:
    from yaml import SafeLoader as Loader


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's content; an empty file has none."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader) or {}


def is_global(path: Path) -> bool:
    """Whether the file's keys count from the top of the config, not from its group."""
    return "@package _global_" in path.read_text(encoding="utf-8").split("\n", 1)[0]
