"""The reader against a slow one that goes step by step: the same episodes, or both refuse."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import DatasetError
from tasks.rl import d4rl
from tasks.rl.d4rl import read_episodes
from tasks.rl.robots import Robot

TINY = Robot("hopper", "Hopper-v4", 4, 3, 2, 2, 0.0, 1.0, max_steps=6)  # dimension 3 is zero, like Ant's forces
FAULTS = ("none", "none", "none", "nan", "large action", "contact force", "wide", "short", "flag")


def slow_reader(arrays: dict[str, np.ndarray]) -> list[dict[str, list]] | None:
    """Episodes as lists of steps; None where the file must be refused."""
    rows = len(arrays["observations"])
    if arrays["observations"].shape != (rows, 4) or any(len(values) != rows for values in arrays.values()):
        return None
    if arrays["terminals"].dtype != bool and any(flag not in (0, 1) for flag in arrays["terminals"]):
        return None
    episodes, steps = [], []
    for t in range(rows):
        steps.append({name: arrays[name][t].astype(np.float32) for name in ("observations", "actions", "rewards")})
        if arrays["terminals"][t] or arrays["timeouts"][t]:
            episodes.append(steps)
            steps = []
    for step in (step for episode in episodes for step in episode):
        if not all(np.isfinite(value).all() for value in step.values()) or step["observations"][3] != 0:
            return None
        if np.abs(step["actions"]).max() > 1 + 1e-5:
            return None
    if not episodes or max(map(len, episodes)) > 2 * TINY.max_steps:
        return None
    first = sorted(float(episode[0]["observations"][0]) for episode in episodes)
    middle = (first[(len(first) - 1) // 2] + first[len(first) // 2]) / 2
    return episodes if abs(middle - 1.25) <= 0.015 else None


@st.composite
def files(draw):
    rows = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    often = draw(st.sampled_from([0.0, 0.1, 0.3, 1.0]))
    arrays = {
        "observations": rng.normal(1.25, draw(st.sampled_from([0.0, 1e-3, 0.1])), (rows, 4)).astype(dtype),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(dtype),
        "rewards": rng.normal(size=rows).astype(dtype),
        "terminals": (rng.random(rows) < often).astype(draw(st.sampled_from([bool, np.uint8]))),
        "timeouts": rng.random(rows) < draw(st.sampled_from([0.0, 0.1])),
    }
    arrays["observations"][:, 3] = 0
    where = draw(st.integers(0, rows - 1))
    fault = draw(st.sampled_from(FAULTS))
    if fault == "nan":
        name = draw(st.sampled_from(["observations", "actions", "rewards"]))
        arrays[name][where] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    elif fault == "large action":
        arrays["actions"][where, 1] = draw(st.sampled_from([-1.001, 1 + 1e-7, 3.0]))
    elif fault == "contact force":
        arrays["observations"][where, 3] = -1e-30
    elif fault == "wide":
        arrays["observations"] = np.pad(arrays["observations"], ((0, 0), (0, 1)))
    elif fault == "short":
        arrays["rewards"] = arrays["rewards"][:-1]
    elif fault == "flag":
        arrays["terminals"] = arrays["terminals"].astype(np.int64)
        arrays["terminals"][where] = draw(st.sampled_from([-1, 1, 2]))
    return arrays


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "set.hdf5"


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(arrays=files(), rows_at_a_time=st.sampled_from([5, 16, 64]))
def test_the_same_episodes_as_a_slow_reader(path, arrays, rows_at_a_time):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    wanted = slow_reader(arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d4rl, "ROWS", rows_at_a_time)
        try:
            found = read_episodes(path, TINY)
        except DatasetError:
            assert wanted is None
            return
    assert wanted is not None
    assert found.lengths.tolist() == [len(episode) for episode in wanted]
    steps = [step for episode in wanted for step in episode]
    np.testing.assert_array_equal(found.observations, [step["observations"][:3] for step in steps])
    np.testing.assert_array_equal(found.actions, [step["actions"] for step in steps])
    np.testing.assert_array_equal(found.rewards, [step["rewards"] for step in steps])
