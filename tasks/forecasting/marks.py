"""Time marks: calendar fields of each step, scaled to [-0.5, 0.5] (the library's `timeF` encoding)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.errors import ConfigError

# Field -> divisor; each is then shifted by -0.5. Fields that start at 1 are shifted to 0 first.
HOURLY = ("hour", "weekday", "day", "day_of_year")
FIELDS = {"h": HOURLY, "t": ("minute", *HOURLY), "d": HOURLY[1:]}


def time_marks(dates: np.ndarray, freq: str = "h") -> np.ndarray:
    """Marks of the steps.

    Args:
        dates: [N] int64, milliseconds since 1970.
        freq: `h` hour of day, day of week, day of month, day of year (the base code gives these four to every
            set, whatever its step: no script of it passes another `freq`); `t` minute of hour first; `d` no hour.

    Returns:
        float32 [N, 4] (`h`), [N, 5] (`t`) or [N, 3] (`d`).

    Raises:
        ConfigError: another `freq`.
    """
    if freq not in FIELDS:
        raise ConfigError("task.data.freq", freq, f"choose one of {', '.join(FIELDS)}")
    stamps = pd.DatetimeIndex(dates.astype("datetime64[ms]"))
    marks = {
        "minute": stamps.minute / 59,
        "hour": stamps.hour / 23,
        "weekday": stamps.dayofweek / 6,
        "day": (stamps.day - 1) / 30,
        "day_of_year": (stamps.dayofyear - 1) / 365,
    }
    return np.stack([np.asarray(marks[field]) - 0.5 for field in FIELDS[freq]], 1).astype(np.float32)
