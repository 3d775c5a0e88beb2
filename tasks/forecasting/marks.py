"""Time marks: calendar fields of each step, scaled to [-0.5, 0.5] (the library's `timeF` encoding)."""

from __future__ import annotations

import numpy as np

from tasks.errors import ConfigError

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
    stamps = dates.astype("datetime64[ms]")
    day = stamps.astype("datetime64[D]")
    marks = {
        "minute": dates // 60_000 % 60 / 59,
        "hour": dates // 3_600_000 % 24 / 23,
        "weekday": (day.astype(np.int64) + 3) % 7 / 6,  # 1970 began on a Thursday; Monday is 0
        "day": (day - stamps.astype("datetime64[M]")).astype(np.int64) / 30,
        "day_of_year": (day - stamps.astype("datetime64[Y]")).astype(np.int64) / 365,
    }
    return np.stack([marks[field] - 0.5 for field in FIELDS[freq]], 1).astype(np.float32)
