"""The forecasting task: MSE as the loss, MSE and MAE over every window as the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric

from aaren import attention_names
from tasks.batches import TaskData
from tasks.errors import ConfigError, near_misses
from tasks.forecasting.data import ForecastingData, WindowBatch
from tasks.forecasting.forecaster import Forecaster, Stationary
from tasks.forecasting.naive import NAIVE
from tasks.forecasting.splits import positive
from tasks.forecasting.stream import ForecastStream
from tasks.task import Measure, Selection, Task

UNIT = "standard deviations of the training rows"


class Forecasting(Task):
    """A forecaster (a network or a naive one), trained and scored on the standardised scale.

    Errors are summed in float64 over all windows, steps and channels and divided by their count once, so that no
    score depends on the batch size; each horizon step has a sum of its own, which gives the curve in the record.
    """

    selection: ClassVar[Selection] = Selection("val", "mse", "min")

    divisible = True

    def __init__(self, forecaster: nn.Module, *, horizon: int, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(optim=optim, seed=seed)
        self.forecaster, self.horizon = forecaster, horizon
        self.scores = nn.ModuleDict(
            {
                f"{split}_{name}": metric(num_outputs=horizon).set_dtype(torch.float64)
                for split in ("val", "test")
                for name, metric in (("mse", MeanSquaredError), ("mae", MeanAbsoluteError))
            }
        )
        self.windows = {"val": 0, "test": 0}
        self.mse_by_step: dict[str, list[float]] = {}

    def loss_terms(self, batch: WindowBatch) -> Tensor:
        return torch.tensor(len(batch.history))

    def training_loss(self, batch: WindowBatch) -> Tensor:
        return F.mse_loss(self.forecaster(batch.history, batch.marks), batch.future)

    def update_metrics(self, split: str, batch: WindowBatch) -> None:
        forecast = self.forecaster(batch.history, batch.marks)
        # [windows and channels, steps]: one sum a step.
        predicted, target = (x.double().transpose(1, 2).flatten(0, 1) for x in (forecast, batch.future))
        for name in ("mse", "mae"):
            self._score(split, name).update(predicted, target)
        self.windows[split] += len(forecast)

    def compute_metrics(self, split: str) -> dict[str, Measure]:
        measures = {}
        for name, unit in (("mse", f"({UNIT})^2"), ("mae", UNIT)):
            score = self._score(split, name)
            by_step = score.compute().reshape(self.horizon)  # num_outputs=1 gives a scalar
            if name == "mse":
                self.mse_by_step[split] = by_step.tolist()
            measures[name] = Measure(float(by_step.mean()), self.windows[split], unit, higher_is_better=False)
            score.reset()
        self.windows[split] = 0
        return measures

    def _score(self, split: str, name: str) -> Metric:
        score = self.scores[f"{split}_{name}"]
        assert isinstance(score, Metric)
        return score

    def artefacts(self, data: TaskData) -> dict[str, Any]:
        """`mse_by_step`: test MSE 1, 2, 4, ... steps ahead; `best_mse`: of the true signal, where it is known."""
        extras: dict[str, Any] = {}
        if curve := self.mse_by_step.get("test"):
            steps = sorted({2**i for i in range(self.horizon.bit_length())} | {self.horizon})
            extras["mse_by_step"] = {"step": steps, "mse": [curve[step - 1] for step in steps]}
        if isinstance(data, ForecastingData) and (best := data.best_mse("test")) is not None:
            extras["best_mse"] = best
        return extras

    def stream(self, statistics: Stationary) -> ForecastStream:
        """A stream that absorbs history step by step; see `ForecastStream`.

        Raises:
            ConfigError: the model is a naive one, which has no state.
        """
        if not isinstance(self.forecaster, Forecaster):
            raise ConfigError("model", type(self.forecaster).__name__, "a naive forecaster has no state to stream")
        return ForecastStream(self.forecaster.eval(), statistics)


def build(cfg: Mapping[str, Any], data: TaskData) -> Forecasting:
    """The task of a job.

    Raises:
        ConfigError: an unknown model, or sizes that no network can have.
    """
    assert isinstance(data, ForecastingData)
    name, attention = cfg["model"]["name"], cfg["model"]["attention"]
    if attention is None:
        if name not in NAIVE:
            raise ConfigError("model", name, f"no such forecaster; naive ones are {', '.join(NAIVE)}")
        forecaster: nn.Module = NAIVE[name](data.horizon)
    else:
        forecaster = _network(attention, cfg["task"]["model"], data)
    return Forecasting(forecaster, horizon=data.horizon, optim=cfg["task"]["optim"], seed=cfg["seed"])


def _network(attention: str, sizes: Mapping[str, Any], data: ForecastingData) -> Forecaster:
    if attention not in attention_names():
        near = near_misses(attention, attention_names())
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError("model.attention", attention, f"{hint}registered: {', '.join(attention_names())}")
    for option in ("d_model", "n_layers", "n_heads", "d_ff", "value_kernel"):
        positive(f"task.model.{option}", sizes[option])
    if sizes["d_model"] % sizes["n_heads"]:
        raise ConfigError("task.model.n_heads", sizes["n_heads"], f"does not divide d_model={sizes['d_model']}")
    try:
        return Forecaster(attention, channels=data.channels, marks=data.marks.shape[1], horizon=data.horizon, **sizes)
    except (ValueError, TypeError) as error:
        raise ConfigError("task.model", dict(sizes), str(error)) from error
