"""Windows: never across an episode's end, padded on the right, and drawn as the protocol says."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.rl.episodes import Episodes
from tasks.rl.windows import SAMPLING, STD_FLOOR, Standardiser, WindowCutter


def marked(lengths: list[int]) -> Episodes:
    """Episodes whose observations say which episode and step they are, [episode + 1, step + 1]."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.arange(starts[-1]) - starts[episode]
    observations = np.stack([episode + 1, step + 1], 1).astype(np.float32)
    rewards = (1 + step).astype(np.float32)
    return Episodes(observations, observations / 1000, rewards, starts, -observations / 1000)


def cutter(episodes: Episodes, length: int) -> WindowCutter:
    plain = Standardiser(np.zeros(2, np.float32), np.ones(2, np.float32))
    return WindowCutter(episodes, plain, length=length, scale=1.0)


lists_of_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(lists_of_lengths, st.integers(1, 25), st.sampled_from(SAMPLING), st.integers(0, 1000))
def test_a_window_never_crosses_an_episode(lengths, K, sampling, seed):
    episodes = marked(lengths)
    cut = cutter(episodes, K)
    first = cut.draw(np.random.default_rng(seed), (16,), sampling)
    window = cut.cut(first)
    for b in range(16):
        real = int(window.valid[b].sum())
        assert window.valid[b].tolist() == [True] * real + [False] * (K - real)
        episode, start = (int(v) for v in window.states[b, 0] - 1)
        assert real == min(K, lengths[episode])  # drawn windows are as long as their episode allows
        assert (window.states[b, :real, 0] == episode + 1).all()
        assert window.timesteps[b].tolist() == list(range(start, start + K))
        assert (window.states[b, :real, 1] - 1).tolist() == list(range(start, start + real))
        to_go = [sum(range(t + 1, lengths[episode] + 1)) for t in range(start, start + real)]
        assert window.returns_to_go[b, :real, 0].tolist() == to_go
        assert torch.equal(window.actions[b, :real], window.states[b, :real] / 1000)
        assert torch.equal(window.behaviour_mean[b, :real], -window.states[b, :real] / 1000)
        for values in (window.states, window.actions, window.returns_to_go, window.behaviour_mean):
            assert not values[b, real:].any()


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(lists_of_lengths, st.integers(1, 25))
def test_tiles_cover_every_step_once_in_order(lengths, K):
    episodes = marked(lengths)
    cut = cutter(episodes, K)
    window = cut.cut(cut.tiles())
    np.testing.assert_array_equal(window.states[window.valid].numpy(), episodes.observations)


def test_shapes_and_types():
    window = cutter(marked([7, 30]), 20).cut(np.array([0, 12, 7]))
    assert [tuple(values.shape) for values in window] == [
        (3, 20, 1),
        (3, 20, 2),
        (3, 20, 2),
        (3, 20),
        (3, 20),
        (3, 20, 2),
    ]
    assert [values.dtype for values in window] == [torch.float32] * 3 + [torch.int64, torch.bool, torch.float32]
    assert window.valid.sum(1).tolist() == [7, 20, 20]


def test_uniform_draws_episodes_alike_and_length_draws_steps_alike():
    lengths = [1000, 100, 30]
    cut = cutter(marked(lengths), 20)
    rng = np.random.default_rng(0)
    for sampling, wanted in (("uniform", [1 / 3] * 3), ("length", np.array(lengths) / 1130)):
        first = cut.draw(rng, (60_000,), sampling)
        counts = np.bincount(np.searchsorted(cut.episodes.starts, first, side="right") - 1, minlength=3)
        np.testing.assert_allclose(counts / 60_000, wanted, atol=4 * 0.5 / np.sqrt(60_000))
    starts = cut.draw(rng, (60_000,), "uniform")
    in_last = starts[starts >= 1100] - 1100
    counts = np.bincount(in_last)
    assert len(counts) == 11  # 0 .. T - K
    assert np.abs(counts / len(in_last) - 1 / 11).max() < 4 * np.sqrt(1 / 11 / len(in_last))


def test_standardising_cuts_pads_and_leaves_a_constant_dimension_at_zero():
    rng = np.random.default_rng(0)
    observations = rng.normal(3, 2, (500, 3)).astype(np.float32)
    observations[:, 2] = 0
    whole = Standardiser.fit(observations, 5)
    np.testing.assert_allclose(whole.mean[:2], observations[:, :2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(whole.std[:2], observations[:, :2].std(0) + STD_FLOOR, rtol=1e-6)
    assert whole.std[2:].tolist() == [np.float32(STD_FLOOR)] * 3
    states = whole(observations)
    assert states.shape == (500, 5)
    assert states.dtype == np.float32
    np.testing.assert_allclose(states[:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(states[:, :2].std(0), 1, atol=1e-5)
    assert not states[:, 2:].any()
    padded = np.pad(observations, ((0, 0), (0, 2)))  # what an environment gives that pads by itself
    np.testing.assert_array_equal(whole(padded), states)
    assert Standardiser.fit(observations, 1)(observations).shape == (500, 1)
