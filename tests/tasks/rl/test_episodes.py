"""Episodes: returns-to-go by hand, returns, and choosing some of them."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.rl.episodes import Episodes


@pytest.fixture
def three() -> Episodes:
    """Episodes of 3, 1 and 2 steps."""
    rewards = np.array([1.0, 2.0, 4.0, -8.0, 16.0, 32.0], np.float32)
    observations = np.arange(12, dtype=np.float32).reshape(6, 2)
    actions = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
    return Episodes(observations, actions, rewards, np.array([0, 3, 4, 6]), actions / 2)


def test_returns_to_go_by_hand(three):
    assert three.returns_to_go(1.0).tolist() == [7, 6, 4, -8, 48, 32]
    np.testing.assert_array_equal(three.returns_to_go(1000.0), np.float32([0.007, 0.006, 0.004, -0.008, 0.048, 0.032]))
    assert three.returns.tolist() == [7, -8, 48]
    assert three.lengths.tolist() == [3, 1, 2]
    assert len(three) == 3


def test_returns_to_go_of_a_million_steps_lose_nothing():
    rng = np.random.default_rng(0)
    rewards = rng.normal(5, 3, 1_000_000).astype(np.float32)
    starts = np.arange(0, 1_000_001, 1000)
    nothing = np.empty((1_000_000, 0), np.float32)
    found = Episodes(nothing, nothing, rewards, starts).returns_to_go(1000.0)
    for episode in (0, 500, 999):
        part = slice(starts[episode], starts[episode + 1])
        exact = np.cumsum(rewards[part][::-1].astype(np.float64))[::-1] / 1000
        np.testing.assert_allclose(found[part], exact, rtol=1e-6, atol=1e-8)


def test_select_keeps_whole_episodes_in_the_order_asked_for(three):
    chosen = three.select(np.array([2, 0]))
    assert chosen.starts.tolist() == [0, 2, 5]
    assert chosen.rewards.tolist() == [16, 32, 1, 2, 4]
    assert chosen.observations[:, 0].tolist() == [8, 10, 0, 2, 4]
    np.testing.assert_array_equal(chosen.behaviour_mean, chosen.actions / 2)
    assert chosen.returns.tolist() == [48, 7]
    none = three.select(np.array([], int))
    assert (len(none), len(none.returns), len(none.returns_to_go(1.0))) == (0, 0, 0)
