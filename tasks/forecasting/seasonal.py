"""A seasonal series whose best reachable MSE is known: the check that training is sound.

Three sensors of one process: x_tc = sin(2 pi t / P + phi_c) + noise_tc. From one day to the next the phase advances
by 1.618 turns, so that the calendar says nothing about it: a forecaster has to read it off the 96 noisy steps of the
window, and from then on the series is known up to the noise. No forecast can beat the variance of noise that is yet
to come, which is the closed form: best MSE = noise variance / variance of the training rows, on the metric's scale.

The configuration gives this set a stack of one layer. Then `mean`, the uniform attention, can pass nothing on: the
values it averages are linear in a window whose mean is zero by stationarisation, so every phase cancels. (With a
second layer it could average products of value and position, and learns to, slowly.) A network that weighs tokens
by what they are or where they stand needs no second layer.

The series is long, since a short one lets a network learn by heart which date has which phase.
"""

from __future__ import annotations

import numpy as np

ROWS = 100_000  # hourly, eleven years; conf/dataset/known/seasonal.yaml takes 3,000 of them for each of val and test
START = np.datetime64("2010-01-01T00:00:00", "ms")
HOUR_MS = 3_600_000
CHANNELS = 3
PERIOD = 14.833  # hours: 24 / P is the golden ratio, as far as can be from every multiple of a day, week or month
NOISE_RATIO = 0.5  # standard deviation of the noise / that of the signal
SEED = 20240522


def seasonal() -> dict[str, np.ndarray]:
    """The arrays that `parse` gives, and `signal` [N, C], the series without its noise."""
    rng = np.random.default_rng(SEED)
    step = np.arange(ROWS)
    phases = rng.uniform(0, 2 * np.pi, CHANNELS)
    signal = np.sin(2 * np.pi * step[:, None] / PERIOD + phases)
    noise = NOISE_RATIO * np.sqrt(0.5) * rng.standard_normal(signal.shape)
    return {
        "values": (signal + noise).astype(np.float32),
        "signal": signal.astype(np.float32),
        "dates": START.astype(np.int64) + HOUR_MS * step,
        "columns": np.array([f"sensor {channel}" for channel in range(CHANNELS)]),
    }
