"""Composed configs by the dozen: Hydra composes once, and the files of family and dataset are merged into that.

A composition costs Hydra 70 ms, whichever file differs, so that 38 of them were most of what a plan took. Tests hold
the result against Hydra's own for every dataset under every profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, ListConfig, OmegaConf

from tasks.conffiles import is_global

Config = DictConfig | ListConfig


class Composer:
    """Configs of datasets under one set of overrides; for use where Hydra is initialised with the same folder.

    Args:
        conf: the project's config folder.
        common: the choices of profile and protocol.
        asked: further overrides, which go over what a dataset's file says.
    """

    def __init__(self, conf: Path, common: Sequence[str], asked: Sequence[str] = ()) -> None:
        self._conf, self._common, self._asked = conf, list(common), list(asked)
        self._bare: DictConfig | None = None
        self._of_family: dict[str, Config] = {}

    def of(self, dataset: str) -> dict[str, Any]:
        """The config of a dataset as a plain dict."""
        path = self._conf / "dataset" / f"{dataset}.yaml"
        own = OmegaConf.load(path)
        family = _brings(own, "/task@_global_.task")
        base = self._family(family) if family and not self._asked else None
        if base is None:
            return composed([f"dataset={dataset}", *self._common, *self._asked])
        return _plain(OmegaConf.merge(base, _self(own) if is_global(path) else {"dataset": _self(own)}))

    def _family(self, family: str) -> Config | None:
        """The config of a job without its dataset; None where the family's file brings along what is not known here."""
        if family not in self._of_family:
            if self._bare is None:
                self._bare = compose("train", overrides=["~dataset", *self._common])
                OmegaConf.set_struct(self._bare, False)
            task = OmegaConf.load(self._conf / "task" / f"{family}.yaml")
            if _brings(task, f"/profile/{family}@_here_") != "${profile}":
                return None
            profile = OmegaConf.load(self._conf / "profile" / family / f"{self._bare['profile']}.yaml")
            if "defaults" in profile:
                return None
            self._of_family[family] = OmegaConf.merge(self._bare, {"task": profile}, {"task": _self(task)})
        return self._of_family[family]


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Hydra's own composition as a plain dict."""
    return _plain(compose("train", overrides=list(overrides)))


def _brings(file: Config, group: str) -> str | None:
    """The choice of `group` that a file's defaults make, if they make no other and come before the file itself."""
    match OmegaConf.to_container(file):
        case {"defaults": [dict(chosen), "_self_"]} if list(chosen) == [group]:
            return str(chosen[group])
    return None


def _self(file: Config) -> dict[Any, Any]:
    """What a file says itself, interpolations kept."""
    content = OmegaConf.to_container(file)
    assert isinstance(content, dict)
    return {key: value for key, value in content.items() if key != "defaults"}


def _plain(cfg: Config) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
