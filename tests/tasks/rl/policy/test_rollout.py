"""Episodes in lock-step: who is asked what and when, what is added up, and that chance has no part in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.rl import rollout
from tasks.rl.environment import LockStep
from tasks.rl.robots import ROBOTS
from tasks.rl.rollout import PolicyFailed, roll_out

HOPPER = ROBOTS["hopper"]
LENGTHS, REWARD = (3, 7, 5), 250.0


class Scripted(LockStep):
    """Simulators whose episode i lasts LENGTHS[i] steps; every step earns REWARD, the observation names the episode."""

    def __init__(self, robot, seeds):
        self.robot, self.seeds, self.time, self.actions, self.closed = robot, seeds, 0, [], False

    def observe(self, alive):
        return np.tile(np.asarray(alive, np.float32)[:, None], (1, self.robot.observations))

    def reset(self):
        return self.observe(np.arange(len(self.seeds)))

    def step(self, actions, alive):
        self.time += 1
        self.actions.append((alive.tolist(), actions))
        over = np.array([LENGTHS[i] <= self.time for i in alive])
        by_falling = alive % 2 == 0
        return self.observe(alive), np.full(len(alive), REWARD), over & by_falling, over & ~by_falling

    def close(self):
        self.closed = True


@pytest.fixture
def scripted(monkeypatch):
    made = []
    monkeypatch.setattr(rollout, "LockStep", lambda robot, seeds: made.append(Scripted(robot, seeds)) or made[-1])
    return made


def play(model, mode="window", **changes):
    options = {"mode": mode, "context": 4, "target_return": 2000.0, "max_steps": 1000, **changes}
    return roll_out(model, HOPPER, [11, 12, 13], **options)


@pytest.mark.parametrize("mode", ["window", "reset", "stream"])
def test_an_episode_that_ends_leaves_and_all_it_earned_is_counted(mode, model_of, scripted):
    played = play(model_of("aaren"), mode)
    assert played.lengths.tolist() == list(LENGTHS)
    assert played.returns.tolist() == [n * REWARD for n in LENGTHS]
    assert [alive for alive, _ in scripted[0].actions] == [[0, 1, 2]] * 3 + [[1, 2]] * 2 + [[1]] * 2
    assert scripted[0].seeds == [11, 12, 13]
    assert scripted[0].closed


def test_no_episode_outlives_max_steps(model_of, scripted):
    played = play(model_of("aaren"), max_steps=4)
    assert played.lengths.tolist() == [3, 4, 4]
    assert played.returns.tolist() == [750.0, 1000.0, 1000.0]


def test_the_return_to_go_falls_by_what_is_earned(model_of, scripted, monkeypatch):
    asked, watched = [], []
    act = rollout.Actor.act
    monkeypatch.setattr(
        rollout.Actor, "act", lambda self, to_go, seen: asked.append((to_go, seen)) or act(self, to_go, seen)
    )
    play(model_of("aaren"), watch=lambda simulators, alive, to_earn: watched.append((alive.tolist(), to_earn.tolist())))
    for step, (to_go, seen) in enumerate(asked):
        torch.testing.assert_close(to_go, torch.full_like(to_go, 2.0 - 0.25 * step))
        assert seen[:, 0].tolist() == watched[step][0], "each episode is shown its own observation"
        assert watched[step][1] == [2000.0 - 250.0 * step] * len(seen)


def test_hidden_dimensions_are_not_shown(model_of, scripted, monkeypatch):
    shapes = set()
    act = rollout.Actor.act
    monkeypatch.setattr(
        rollout.Actor, "act", lambda self, to_go, seen: shapes.add(seen.shape[1]) or act(self, to_go, seen)
    )
    play(model_of("aaren", observed=HOPPER.positions))
    assert shapes == {5}


def test_an_action_that_is_not_finite_stops_before_the_simulator_sees_it(model_of, scripted):
    model = model_of("aaren").train()
    with torch.no_grad():
        model.head.bias[1] = torch.nan
    with pytest.raises(PolicyFailed, match=r"hopper's action at step 0 is not finite: .*task\.optim\.lr"):
        play(model)
    assert not scripted[0].actions
    assert scripted[0].closed
    assert model.training, "the model is handed back as it came"


@pytest.mark.parametrize("robot", ["hopper", "ant"])
def test_same_seeds_same_returns_to_the_bit_and_nothing_drawn(robot, model_of):
    robot = ROBOTS[robot]
    model = model_of("aaren", observed=robot.observations, actions=robot.actions, n_layers=1)
    options = {"mode": "reset", "context": 4, "target_return": 1000.0, "max_steps": 12}
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (roll_out(model, robot, [1, 2, 3], **options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert first.returns.tolist() == again.returns.tolist()
    assert first.lengths.tolist() == again.lengths.tolist()
    assert len(set(first.returns.tolist())) == 3, "each seed has a start of its own"
    other = roll_out(model, robot, [3, 4], **options)
    assert other.returns[0] == pytest.approx(first.returns[2], abs=1e-3), "whatever runs beside it"
    assert other.returns[1] not in first.returns.tolist()
