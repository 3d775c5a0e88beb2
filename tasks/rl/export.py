"""The policy's step for a host without torch: what is observed and the return to go in, the action out.

A step is three tokens: the action before (if the stream has one), the return to go, the state. One graph serves two
ways of acting: with a fresh state every `restart_every` steps (`reset`), or never (`stream`, for a state that does not
grow).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aaren.export import StreamingStep, folded
from aaren.flat import FlatState, Port, state_grows
from tasks.errors import ConfigError
from tasks.exportable import Exportable, Turn
from tasks.rl.acting import Actor
from tasks.rl.data import RLData
from tasks.rl.model import TOKENS, DecisionTransformer
from tasks.rl.task import RLTask

GUIDE = (
    "return_to_go starts at scaling.target_return / scaling.return_scale and falls by reward / scaling.return_scale.",
    "observation is raw: the graph standardises it. timestep counts from 0 in each episode.",
    "previous_action is the action performed at timestep - 1; it is not looked at in the first step of a fresh state.",
    "Start a fresh state with each episode, and again every scaling.restart_every steps (mode reset, as in training). "
    "A model whose capacity is null may also go on for the whole episode (mode stream).",
)


class PolicyStep(StreamingStep):
    """One step of an episode.

    Args:
        model: trained.
        capacity: the most steps between two fresh states, for a model whose state grows.
    """

    table: Tensor

    def __init__(self, model: DecisionTransformer, capacity: int | None) -> None:
        super().__init__()
        self.model = folded(model)
        self.flat = FlatState(self.model.backbone, None if capacity is None else TOKENS * capacity - 1)
        self.capacity = capacity
        self.inputs = [
            Port("return_to_go", (), "float32", "still to be earned, divided by scaling.return_scale"),
            Port("observation", (model.observed,), "float32", "raw"),
            Port("previous_action", (model.actions,), "float32", "performed at timestep - 1"),
            Port("timestep", (), "int64", f"in the episode, 0 to {model.timesteps - 1}"),
        ]
        self.outputs = [Port("action", (model.actions,), "float32", "to perform now, each in [-1, 1]")]
        self.state = self.flat.ports
        self.eval()

    def forward(
        self,
        return_to_go: Float[Tensor, " B"],
        observation: Float[Tensor, "B o"],
        previous_action: Float[Tensor, "B a"],
        timestep: Int[Tensor, " B"],
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        model, backbone, position = self.model, self.model.backbone, state[0]
        table, follows = model.embed_time.weight, position > 0
        now = table[timestep.clamp(0, model.timesteps - 1)]
        before = table[(timestep - 1).clamp(0, model.timesteps - 1)]
        tokens = (
            model.embed_action(previous_action) + before,
            model.embed_return(return_to_go[:, None]) + now,
            model.embed_state(model.standardise(observation)) + now,
        )
        action_token, return_token, state_token = (model.norm(token) for token in tokens)
        _, after = backbone.step(action_token, self.flat.unflatten(state), follows)
        _, after = backbone.step(return_token, after)
        y, after = backbone.step(state_token, after)
        position = position + follows.long() + (TOKENS - 1)
        action = self.flat.guard(torch.tanh(model.head(y)), position)
        known = (timestep >= 0) & (timestep < model.timesteps)
        action = torch.where(known[:, None], action, action.new_full((), torch.nan))
        return action, *self.flat.flatten(after, position)


def exportable(task: Any, data: RLData) -> Exportable:
    """The step of a trained policy; a growing state gets room for the steps of a window.

    Raises:
        ConfigError: the behaviour policy of the data.
    """
    if not isinstance(task, RLTask):
        raise ConfigError("model", type(task).__name__, "the data's own behaviour has no state to export")
    grows = state_grows(task.model.backbone)
    step = PolicyStep(task.model, data.K if grows else None)
    scaling = {
        "target_return": float(task.target_return),
        "return_scale": float(task.scale),
        "restart_every": data.K,
        "observation_mean": [float(v) for v in data.state_mean],
        "observation_std": [float(v) for v in data.state_std],
    }
    return Exportable(step, lambda: _drive(task, data, ("reset",) if grows else ("reset", "stream")), GUIDE, scaling)


def _drive(task: RLTask, data: RLData, modes: tuple[str, ...]) -> Iterator[Turn]:
    """Recorded episodes, in each of the modes in turn; the actions fed back are the policy's own."""
    model, episodes = task.model.eval(), data.episodes
    to_go = episodes.returns_to_go(data.scale)
    width = min(model.observed, episodes.observations.shape[1])
    number = 0
    while True:
        index = number // len(modes) % len(episodes)
        mode = modes[number % len(modes)]
        number += 1
        actor = Actor(model, mode, data.K)
        action = torch.zeros(1, model.actions)
        for t, row in enumerate(range(episodes.starts[index], episodes.starts[index + 1])):
            observation = np.zeros((1, model.observed), np.float32)
            observation[0, :width] = episodes.observations[row, :width]
            goal = torch.from_numpy(to_go[row : row + 1].astype(np.float32))
            seen = torch.from_numpy(observation)
            fresh = t == 0 or (mode == "reset" and t % data.K == 0)

            def act(goal: Tensor = goal, seen: Tensor = seen, actor: Actor = actor) -> dict[str, Tensor]:
                nonlocal action
                action = actor.act(goal, seen)
                return {"action": action}

            timestep = torch.tensor([t])
            inputs = {"return_to_go": goal, "observation": seen, "previous_action": action, "timestep": timestep}
            yield Turn(inputs, {} if fresh else None, act)
