"""Jobs as users start them: composed from the shipped config tree, run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """The plain config that `scripts/train.py` would run with these overrides."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
    assert isinstance(cfg, dict)
    return cfg


@pytest.fixture
def job(tmp_path):
    """`job("dataset=...", ...)`: a smoke job's config with its own runs folder and no logger."""

    def make(*overrides: str) -> dict[str, Any]:
        fixed = [f"runs_dir={tmp_path / 'runs'}", "logger=none", "progress=none", "profile=smoke"]
        return composed(*fixed, *overrides)

    return make
