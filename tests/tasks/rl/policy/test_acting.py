"""Acting step by step equals the model on whole windows, in each mode where it should, and forgets where it must."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tasks.errors import ConfigError
from tasks.rl.acting import Actor
from tasks.rl.windows import Windows

K, STEPS, N = 5, 14, 3


@pytest.fixture
def episode():
    """Returns-to-go [STEPS, N] and raw observations [STEPS, N, 11] of N episodes."""
    draw = torch.Generator().manual_seed(3)
    return torch.randn(STEPS, N, generator=draw), 3 * torch.randn(STEPS, N, 11, generator=draw) + 2


def acted(model, mode, episode, context=K):
    """The actions of all steps [STEPS, N, 3]."""
    actor = Actor(model, mode, context)
    return torch.stack([actor.act(to_go, seen) for to_go, seen in zip(*episode, strict=True)])


def as_window(model, episode, actions, first, last):
    """What the model says at step `last`, shown the steps from `first` on with the actions taken."""
    to_go, seen = (part[first : last + 1].transpose(0, 1) for part in episode)
    steps = torch.arange(first, last + 1).expand(N, -1)
    taken = actions[first : last + 1].transpose(0, 1).clone()
    taken[:, -1] = 0.0  # the base code's placeholder
    window = Windows(to_go[..., None], model.standardise(seen), taken, steps, torch.ones_like(steps, dtype=torch.bool))
    with torch.no_grad():
        return model(window)[:, -1]


@pytest.mark.parametrize("attention", ["aaren", "transformer", "none"])
def test_window_mode_is_the_model_on_the_last_steps(attention, model_of, episode):
    model = model_of(attention)
    actions = acted(model, "window", episode)
    for step in range(STEPS):
        expected = as_window(model, episode, actions, max(0, step - K + 1), step)
        torch.testing.assert_close(actions[step], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["aaren", "transformer", "mean", "none"])
def test_reset_equals_window_until_the_window_slides_and_starts_anew_after(attention, model_of, episode):
    model = model_of(attention)
    window, reset = acted(model, "window", episode), acted(model, "reset", episode)
    torch.testing.assert_close(reset[:K], window[:K], atol=1e-5, rtol=0)
    for step in range(K, STEPS):
        expected = as_window(model, episode, reset, step - step % K, step)
        torch.testing.assert_close(reset[step], expected, atol=1e-5, rtol=0)


def test_stream_sees_the_whole_episode(model_of, episode):
    model = model_of("aaren")
    actions = acted(model, "stream", episode)
    for step in range(STEPS):
        torch.testing.assert_close(actions[step], as_window(model, episode, actions, 0, step), atol=1e-5, rtol=0)
    assert (actions - acted(model, "reset", episode))[K:].abs().max() > 1e-3, "it should differ from reset by then"


LONG = """
import numpy, torch
from tasks.rl.acting import Actor
from tasks.rl.model import DecisionTransformer
torch.set_num_threads(1)
model = DecisionTransformer(
    observed=11, actions=3, state_mean=numpy.zeros(11), state_std=numpy.ones(11), attention="aaren", d_model=16, d_ff=32
)
actor, held = Actor(model.eval(), "stream", 5), set()
for _ in range(1000):
    actions = actor.act(torch.ones(2), torch.ones(2, 11))
    held.add(actor.nbytes)
assert actions.isfinite().all()
assert len(held) == 1, held
"""


def test_a_stream_of_a_thousand_steps_remembers_as_much_as_one_of_one():
    # In a process without the shape checker, which takes ten times the time of a step.
    subprocess.run([sys.executable, "-c", LONG], check=True)


def test_between_two_resets_or_in_a_window_memory_is_bounded(model_of):
    for mode, attention in (("reset", "aaren"), ("reset", "transformer"), ("window", "aaren")):
        actor, held = Actor(model_of(attention, n_layers=1), mode, K), []
        for _ in range(3 * K):
            actor.act(torch.ones(2), torch.ones(2, 11))
            held.append(actor.nbytes)
        assert max(held) == max(held[:K]), (mode, attention)


@pytest.mark.parametrize("mode", ["window", "reset", "stream"])
def test_episodes_that_end_leave_the_others_as_they_were(mode, model_of, episode):
    model, kept = model_of("aaren"), torch.tensor([0, 2])
    whole, actor = acted(model, mode, episode), Actor(model, mode, K)
    for step, (to_go, seen) in enumerate(zip(*episode, strict=True)):
        if step == 7:
            actor.keep(kept)
        rows = kept if step >= 7 else torch.arange(N)
        torch.testing.assert_close(actor.act(to_go[rows], seen[rows]), whole[step][rows], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("attention", "mode", "context", "named"),
    [
        ("transformer", "stream", K, "task.rollout.mode"),
        ("aaren", "streaming", K, "task.rollout.mode"),
        ("aaren", "window", 0, "task.data.context"),
    ],
)
def test_impossible_modes_are_refused(attention, mode, context, named, model_of):
    with pytest.raises(ConfigError, match=named):
        Actor(model_of(attention), mode, context)


def test_an_episode_cannot_outlive_the_time_embedding(model_of, episode):
    with pytest.raises(ValueError, match=r"step 9 .* ends at 9; .*task\.model\.timesteps"):
        acted(model_of("aaren", timesteps=9), "window", episode)
