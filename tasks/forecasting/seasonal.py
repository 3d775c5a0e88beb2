"""A seasonal series whose best reachable MSE is known: the check that training is sound.

Three sensors of one process: x_tc = sum_j a_j sin(2 pi t / P_j + phi_j + psi_cj) + noise_tc. From one day to the next
the phases advance by 0.618 of a turn, so that the calendar says nothing about them: a forecaster has to read them off
the 96 noisy steps of the window, and from then on the series is known up to the noise. No forecast can beat the
variance of noise that is yet to come, which is the closed form: best MSE = noise variance / variance of the training
rows, channel by channel, on the metric's scale.

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
PERIODS = np.array([14.833])
AMPLITUDES = np.array([1.0])
NOISE_RATIO = 0.5  # standard deviation of the noise / that of the signal
SEED = 20240522


def seasonal() -> dict[str, np.ndarray]:
    """The arrays that `parse` gives, and `signal` [N, C], the series without its noise."""
    rng = np.random.default_rng(SEED)
    step = np.arange(ROWS)
    phases = rng.uniform(0, 2 * np.pi, (CHANNELS, len(PERIODS)))
    turns = 2 * np.pi * step[:, None, None] / PERIODS
    signal = (AMPLITUDES * np.sin(turns + phases)).sum(-1)
    noise = NOISE_RATIO * np.sqrt(np.square(AMPLITUDES).sum() / 2) * rng.standard_normal(signal.shape)
    return {
        "values": (signal + noise).astype(np.float32),
        "signal": signal.astype(np.float32),
        "dates": START.astype(np.int64) + HOUR_MS * step,
        "columns": np.array([f"sensor {channel}" for channel in range(CHANNELS)]),
    }
