"""Row borders, window counts and the scaler, from row counts alone."""

import numpy as np
import pytest

from tasks.errors import ConfigError
from tasks.forecasting.splits import fit_scaler, forward_fill, part_rows, positive, windows

HORIZONS = (96, 192, 336, 720)
ETT_HOUR, ETT_QUARTER = (8640, 2880, 2880), (34560, 11520, 11520)
# Protocol, table 1.2: rows, stated parts, rows of each part, train windows at 96, test windows at each horizon.
TABLE = {
    "ETTh": (17420, ETT_HOUR, ETT_HOUR, 8449, (2785, 2689, 2545, 2161)),
    "ETTm": (69680, ETT_QUARTER, ETT_QUARTER, 34369, (11425, 11329, 11185, 10801)),
    "Exchange": (7588, None, (5311, 760, 1517), 5120, (1422, 1326, 1182, 798)),
    "Weather": (52696, None, (36887, 5270, 10539), 36696, (10444, 10348, 10204, 9820)),
    "ECL": (26304, None, (18412, 2632, 5260), 18221, (5165, 5069, 4925, 4541)),
    "Traffic": (17544, None, (12280, 1756, 3508), 12089, (3413, 3317, 3173, 2789)),
}


@pytest.mark.parametrize("name", TABLE)
def test_rows_and_window_counts_are_the_librarys(name):
    total, stated, parts, train_windows, test_windows = TABLE[name]
    rows = part_rows(total, stated)
    assert rows == parts
    assert windows(rows, 96, 96)["train"].count == train_windows
    assert tuple(windows(rows, 96, horizon)["test"].count for horizon in HORIZONS) == test_windows


def test_exchange_720_has_41_validation_windows():
    assert windows(part_rows(7588, None), 96, 720)["val"].count == 41


@pytest.mark.parametrize("horizon", HORIZONS)
def test_each_part_forecasts_its_own_rows_and_all_of_them(horizon):
    rows = part_rows(17420, ETT_HOUR)
    forecast = {}
    for part, split in windows(rows, 96, horizon).items():
        first = split.first + 96
        forecast[part] = (first, first + split.count - 1 + horizon)
    assert forecast == {"train": (96, 8640), "val": (8640, 11520), "test": (11520, 14400)}


@pytest.mark.parametrize(
    ("history", "horizon", "option"),
    [(96, 0, "horizon"), (96, -1, "horizon"), (0, 96, "task.history")],
)
def test_an_impossible_length_names_its_option(history, horizon, option):
    with pytest.raises(ConfigError, match=f"^{option}="):
        windows(part_rows(1000, None), history, horizon)


@pytest.mark.parametrize("value", [96.0, True, "96", None])
def test_what_is_no_whole_number_names_its_option(value):
    with pytest.raises(ConfigError, match=r"^horizon="):
        positive("horizon", value)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_without_a_window_is_refused_by_name(part):
    rows = {"train": 400, "val": 200, "test": 200} | {part: 90}
    with pytest.raises(ConfigError, match=f"no window fits the {part} part"):
        windows(part_rows(800, list(rows.values())), 96, 96)


@pytest.mark.parametrize("rows", [[100, 100], [100, 0, 100], [600, 300, 200]])
def test_stated_rows_that_do_not_fit_name_their_option(rows):
    with pytest.raises(ConfigError, match=r"^task\.data\.rows="):
        part_rows(1000, rows)


def test_the_scaler_knows_the_training_rows_alone_and_divides_by_the_population_deviation():
    values = np.random.default_rng(0).normal(3, 2, (500, 3)).astype(np.float32)
    scaler = fit_scaler(values, 300)
    train = values[:300].astype(np.float64)
    np.testing.assert_allclose(scaler.mean_, train.mean(0), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, train.std(0, ddof=0), rtol=1e-12)


def test_forward_fill_takes_the_value_before():
    values = np.array([[-9999, 1], [2, -9999], [-9999, -9999], [5, 4]], np.float32)
    np.testing.assert_array_equal(forward_fill(values, -9999.0), [[2, 1], [2, 1], [2, 1], [5, 4]])
    assert values[0, 0] == -9999
