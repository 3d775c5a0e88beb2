"""Windows, the scaler's poison test, and the real files where they are."""

import dataclasses

import numpy as np
import pytest
import torch

from tasks.data import DatasetError, DatasetUnavailable, Resolved, resolve
from tasks.errors import ConfigError
from tasks.forecasting import load_data
from tasks.forecasting.data import ForecastingData, parse

CHANNELS, ROWS = 3, 400


def arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "values": rng.normal(5, 3, (rows, CHANNELS)).cumsum(0).astype(np.float32),
        "dates": np.arange(rows) * 3_600_000,
        "columns": np.array(["a", "b", "OT"]),
    }


def data(source: dict[str, np.ndarray], **options) -> ForecastingData:
    return ForecastingData(source, **({"history": 24, "horizon": 12} | options))


def found(dataset: str) -> Resolved | None:
    """The real set; None where no data root holds it, and then the error has to say how to get it."""
    try:
        return resolve(dataset)
    except DatasetUnavailable as error:
        message = str(error)
    assert dataset in message
    return None


def config(**changes) -> dict:
    options = {"rows": None, "freq": "h", "clean_weather": False, "batch_size": 8, "eval_batch_size": 8}
    task = {"history": 96, "default_horizon": 192, "data": options}
    return {"task": task, "horizon": None, "seed": 0} | changes


def test_a_batch_is_the_rows_of_its_windows():
    source = arrays()
    windows = data(source)
    train, val, test = windows.rows
    expected = (source["values"].astype(np.float64) - windows.scaler.mean_) / windows.scaler.scale_
    for split, first in (("train", 0), ("val", train - 24), ("test", train + val - 24)):
        picked = np.array([0, 5, windows.sizes[split] - 1])
        batch = windows.batch(split, picked)
        assert batch.history.shape == (3, 24, CHANNELS)
        assert batch.future.shape == (3, 12, CHANNELS)
        for row, index in enumerate(picked):
            start = first + index
            np.testing.assert_allclose(batch.history[row], expected[start : start + 24], atol=1e-6)
            np.testing.assert_allclose(batch.future[row], expected[start + 24 : start + 36], atol=1e-6)
            np.testing.assert_array_equal(batch.marks[row], windows.marks[start : start + 36])
    assert train + val + test == ROWS


def test_the_last_test_window_ends_at_the_last_test_row():
    windows = data(arrays(), rows=[200, 60, 80])
    last = windows.batch("test", np.array([windows.sizes["test"] - 1])).future[0, -1]
    torch.testing.assert_close(last, windows.values[339])


def test_windows_are_never_all_made():
    windows = data(arrays())
    view = windows.values.unfold(0, 36, 1)
    assert view.untyped_storage().nbytes() == ROWS * CHANNELS * 4


def test_changing_the_test_rows_changes_no_training_tensor():
    clean, poisoned = arrays(), arrays()
    before = data(clean)
    poisoned["values"][before.rows.train :] = 1e6
    after = data(poisoned)
    every = np.arange(before.sizes["train"])
    for name in ("history", "future", "marks"):
        one, other = (getattr(windows.batch("train", every), name) for windows in (before, after))
        assert torch.equal(one, other)
    assert not torch.equal(before.values, after.values)


def test_clean_weather_fills_the_failed_sensor():
    source = arrays()
    source["values"][50:53, 1] = -9999
    windows = data(source, clean=True)
    assert torch.equal(windows.values[50:53, 1], windows.values[49, 1].expand(3))
    assert data(source).values[51, 1] < windows.values[51, 1]


def test_a_series_shorter_than_a_window_names_the_option():
    with pytest.raises(ConfigError, match=r"^horizon=192: no window fits the train part"):
        data(arrays(100), history=96, horizon=192)


@pytest.mark.parametrize("dataset", ["extra/us-temperatures", "known/seasonal"])
def test_the_embedded_sets_load_without_any_file_of_the_users(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("AAREN_DATA", str(tmp_path))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path))
    windows = load_data(config(), resolve(dataset))
    batch = windows.batch("test", np.arange(2))
    assert batch.history.shape[:2] == (2, 96)
    assert torch.isfinite(windows.values).all()
    assert windows.channels == {"extra/us-temperatures": 2, "known/seasonal": 3}[dataset]


@pytest.mark.parametrize("horizon", [0, -3, 30_000, 1.5])
def test_an_impossible_horizon_names_its_option(horizon):
    with pytest.raises(ConfigError, match=r"^horizon="):
        load_data(config(horizon=horizon), resolve("known/seasonal"))


@pytest.mark.parametrize("rows", [26304, 26303])
def test_a_users_ecl_loads_or_says_what_is_wrong_with_its_shape(rows, monkeypatch, tmp_path):
    """Three of its 321 columns, so that the test is quick; the manifest's shape is changed to match."""
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path))
    dates = np.datetime64("2016-07-01T02:00:00") + np.arange(rows) * np.timedelta64(1, "h")
    cells = np.random.default_rng(0).integers(0, 5000, (rows, 3)).tolist()
    lines = [f"{str(date).replace('T', ' ')},{a},{b},{c}" for date, (a, b, c) in zip(dates, cells, strict=True)]
    path = tmp_path / "electricity.csv"
    path.write_text("\n".join(["date,0,1,OT", *lines]))
    template = resolve("known/seasonal")
    entry = dataclasses.replace(template.entry, shape={"rows": 26304, "channels": 3})
    resolved = dataclasses.replace(template, dataset="ECL", files={"series": path}, entry=entry)
    if rows == 26304:
        windows = ForecastingData(parse(resolved), history=96, horizon=96)
        assert windows.sizes == {"train": 18221, "val": 2537, "test": 5165}
    else:
        with pytest.raises(DatasetError, match="26303 rows x 3 channels, but ECL has 26304 rows"):
            parse(resolved)


@pytest.mark.parametrize("dataset", ["ETTh1", "ETTh2", "ETTm1", "ETTm2", "Exchange", "Weather"])
def test_a_real_set_has_the_stated_shape_dates_and_statistics(dataset):
    if (resolved := found(dataset)) is None:
        return
    read = parse(resolved)
    stated = resolved.entry.statistics
    first, last = (str(np.datetime64(int(read["dates"][i]), "ms")).replace("T", " ")[:16] for i in (0, -1))
    assert (first, last) == (str(stated["first"]), str(stated["last"]))
    assert read["values"].shape == (resolved.entry.shape["rows"], resolved.entry.shape["channels"])
    poisoned = dataclasses.replace(resolved.entry, statistics=dict(stated, mean=[m + 1 for m in stated["mean"]]))
    with pytest.raises(DatasetError, match="has mean"):
        parse(dataclasses.replace(resolved, entry=poisoned))
