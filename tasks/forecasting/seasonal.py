"""A seasonal series whose best reachable MSE is known: the check that training is sound.

x_t = sum_j a_j sin(2 pi t / P_j + phi_j) + noise_t. No period P_j divides the day, the week or the year, so the calendar
says nothing about the phase: a forecaster has to read it off the 96 noisy steps of the window, and then the rest of
the series is known up to the noise. No forecast made before a step happens can beat the noise variance there, which
is the closed form: best MSE = noise variance / variance of the training rows, on the metric's scale.

The series is long, since a short one lets a network learn by heart which date has which phase.
"""

from __future__ import annotations

import numpy as np

ROWS = 30_000  # hourly, some three and a half years
PARTS = (26_000, 1_600, 2_400)  # of them train, val, test
START = np.datetime64("2016-07-01T00:00:00", "ms")
HOUR_MS = 3_600_000
# Hours. From one day to the next the phases advance by 0.618 of a turn, the golden ratio: as far as can be from
# every multiple of a day, a week or a month.
PERIODS = (14.833, 38.833)
AMPLITUDES = (1.0, 0.7)
NOISE_RATIO = 0.4  # standard deviation of the noise / that of the signal
SEED = 20240522


def seasonal() -> dict[str, np.ndarray]:
    """The arrays that `parse` gives, and `signal` [N, 1], the series without its noise."""
    rng = np.random.default_rng(SEED)
    step = np.arange(ROWS)
    phases = rng.uniform(0, 2 * np.pi, len(PERIODS))
    signal = sum(
        amplitude * np.sin(2 * np.pi * step / period + phase)
        for amplitude, period, phase in zip(AMPLITUDES, PERIODS, phases, strict=True)
    )
    noise = NOISE_RATIO * np.sqrt(np.square(AMPLITUDES).sum() / 2) * rng.standard_normal(ROWS)
    return {
        "values": (signal + noise)[:, None].astype(np.float32),
        "signal": np.asarray(signal)[:, None].astype(np.float32),
        "dates": START.astype(np.int64) + HOUR_MS * step,
        "columns": np.array(["seasonal"]),
    }
