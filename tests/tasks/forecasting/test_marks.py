"""Time marks against the calendar."""

import numpy as np
import pytest

from tasks.errors import ConfigError
from tasks.forecasting.marks import time_marks


def _ms(*stamps: str) -> np.ndarray:
    return np.array(stamps, "datetime64[ms]").astype(np.int64)


def test_hourly_marks_by_hand():
    # 31 December 2016 was a Saturday, and day 366 of a leap year.
    marks = time_marks(_ms("2016-12-31T23:00", "2018-01-01T00:00"))
    np.testing.assert_allclose(marks, [[0.5, 5 / 6 - 0.5, 0.5, 0.5], [-0.5] * 4], atol=1e-7)


@pytest.mark.parametrize(("freq", "count"), [("h", 4), ("t", 5), ("d", 3)])
def test_marks_stay_within_half(freq, count):
    marks = time_marks(_ms("2016-01-01") + 420_000 * np.arange(600_000), freq)
    assert marks.shape == (600_000, count)
    assert marks.dtype == np.float32
    np.testing.assert_allclose([marks.min(0), marks.max(0)], [[-0.5] * count, [0.5] * count], atol=1e-6)


def test_an_unknown_freq_names_its_option():
    with pytest.raises(ConfigError, match=r"^task\.data\.freq='s'"):
        time_marks(_ms("2016-01-01"), "s")
