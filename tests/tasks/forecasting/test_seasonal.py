"""The set with a known best: its closed form, and what each forecaster can reach on it."""

import numpy as np
import pytest
import torch

from tasks.forecasting import seasonal as source
from tasks.forecasting.data import ForecastingData
from tasks.forecasting.forecaster import Forecaster
from tasks.forecasting.naive import RepeatLast, WindowMean

ROWS = [94_000, 3_000, 3_000]  # those of conf/dataset/known/seasonal.yaml


@pytest.fixture(scope="module")
def data() -> ForecastingData:
    return ForecastingData(source.seasonal(), history=96, horizon=192, rows=ROWS)


def _mse(forecaster: torch.nn.Module, data: ForecastingData) -> float:
    batch = data.batch("test", np.arange(0, data.sizes["test"], 7))
    return (forecaster(batch.history, batch.marks) - batch.future).square().mean().item()


def test_it_is_the_same_series_every_time():
    one, other = source.seasonal(), source.seasonal()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_best_mse_agrees_with_its_closed_form(data):
    expected = source.NOISE_RATIO**2 / (1 + source.NOISE_RATIO**2)
    assert data.best_mse("test") == pytest.approx(expected, rel=0.05)  # 9,000 draws of the noise: 1.5 % each way


def test_the_naive_forecasters_are_three_times_worse_than_the_best(data):
    best = data.best_mse("test")
    assert best is not None
    assert _mse(RepeatLast(192), data) >= 3 * best
    assert _mse(WindowMean(192), data) >= 3 * best


def test_no_phase_follows_the_calendar(data):
    """Least squares on the time marks and their squares explains nothing of the training rows."""
    marks, values = data.marks[: ROWS[0]].double(), data.values[: ROWS[0]].double()
    inputs = torch.cat([marks, marks**2, torch.ones(len(marks), 1)], 1)
    residual = values - inputs @ torch.linalg.lstsq(inputs, values).solution
    assert residual.var().item() > 0.999 * values.var().item()


def test_one_layer_of_uniform_attention_hears_nothing_of_the_window(data):
    """Whatever its weights, `mean` gives the same normalised forecast to every window; `aaren` does not."""
    batch = data.batch("test", np.array([0, 5, 11, 17]))
    marks = batch.marks[:1].expand(4, -1, -1)
    spread = {}
    for attention in ("mean", "aaren"):
        torch.manual_seed(3)
        network = Forecaster(
            attention, channels=3, marks=4, horizon=192, d_model=32, n_layers=1, n_heads=4, d_ff=64, dropout=0.0
        ).eval()
        history = (batch.history - batch.history.mean(1, keepdim=True)) / batch.history.std(1, keepdim=True)
        with torch.no_grad():
            # From the third placeholder on: the first two see the last steps through the value embedding.
            spread[attention] = network(history, marks)[:, 2:].std(0).max().item()
    assert spread["mean"] < 1e-5 < 1e-3 < spread["aaren"]
