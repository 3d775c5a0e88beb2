"""Forecasting: eight sets, horizons 96, 192, 336 and 720 (protocol: the Time Series Library's, faults mended)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.batches import TaskData
    from tasks.data import Resolved
    from tasks.task import Task


def load_data(cfg: Mapping[str, Any], resolved: Resolved) -> TaskData:
    """The windows of a resolved dataset, split and scaled as `cfg["task"]` says."""
    from tasks.forecasting.data import load

    return load(cfg, resolved)


def build_task(cfg: Mapping[str, Any], data: TaskData) -> Task:
    """The task of `cfg["model"]`: a network around an attention, or one of the naive forecasters."""
    from tasks.forecasting.model import build

    return build(cfg, data)
