"""Acting step by step, n episodes at once: what the model is shown of the past, in three modes.

- window: the last K steps, recomputed at every step; the base code's way, and the score, for every model.
- reset: a carried state that starts anew every K steps.  Equal to `window` while t < K; then the history is 1 to K
  steps long.  Aaren's state has constant size, a key/value cache ends at 3K tokens.
- stream: a carried state that never starts anew, up to 3,000 tokens where training showed 3K.  Out of distribution,
  so reported apart; only for a model whose state does not grow.

Embedded tokens depend on absolute time alone, so that each is made once, whatever the mode.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from aaren.state import State
from tasks.errors import ConfigError
from tasks.rl.model import TOKENS, DecisionTransformer

MODES = ("window", "reset", "stream")


def check_mode(model: DecisionTransformer, mode: str, context: int) -> None:
    """Raise ConfigError for an unknown mode, a context below 1, or a stream whose state would grow."""
    if mode not in MODES:
        raise ConfigError("task.rollout.mode", mode, f"choose one of {', '.join(MODES)}")
    if context < 1:
        raise ConfigError("task.data.context", context, "a window needs at least one step")
    if mode == "stream" and _grows(model):
        raise ConfigError(
            "task.rollout.mode",
            mode,
            "the state of this model grows with every token, so it cannot stream without end; "
            "choose window or reset, or model=aaren",
        )


class Actor:
    """A policy in one of the modes, for episodes in lock-step: all are at the same time step.

    Args:
        model: in evaluation mode; nothing is drawn at random.
        mode: one of MODES.
        context: K, the steps of a window, or between two resets.
    """

    def __init__(self, model: DecisionTransformer, mode: str, context: int) -> None:
        check_mode(model, mode, context)
        self.model, self.mode, self.context = model, mode, context
        self.step = 0
        self.state: State | None = None
        self.window: Tensor | None = None  # [n, tokens, d], at most 3K - 1: up to the last state
        self.last_action: Tensor | None = None

    @torch.inference_mode()
    def act(self, returns_to_go: Float[Tensor, " n"], observations: Float[Tensor, "n o"]) -> Float[Tensor, "n a"]:
        """The actions at this step; it is taken that they are the ones performed.

        Args:
            returns_to_go: scaled as in training.
            observations: raw, as the environment gives them.

        Raises:
            ValueError: an episode longer than the time embedding.
        """
        if self.step >= self.model.timesteps:
            raise ValueError(
                f"step {self.step} of an episode, but the time embedding ends at {self.model.timesteps}; "
                "stop the episode, or train with a larger task.model.timesteps"
            )
        if self.mode == "reset" and self.step % self.context == 0:
            self.state = self.last_action = None
        tokens = self.model.fresh_tokens(self.step, returns_to_go, observations, self.last_action)
        if self.mode == "window":
            seen = tokens if self.window is None else torch.cat([self.window, tokens], 1)
            self.window = seen[:, -(TOKENS * self.context - 1) :]
            self.last_action = self.model.act(self.window)
        else:
            self.last_action, self.state = self.model.act_after(tokens, self.state)
        self.step += 1
        return self.last_action

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch only: the other episodes have ended."""
        if self.window is not None:
            self.window = self.window[rows]
        if self.state is not None:
            self.state = self.state.select(rows)
        if self.last_action is not None:
            self.last_action = self.last_action[rows]

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered of the past."""
        held = 0 if self.state is None else self.state.nbytes
        kept = [tensor for tensor in (self.window, self.last_action) if tensor is not None]
        return held + sum(tensor.numel() * tensor.element_size() for tensor in kept)


@torch.inference_mode()
def _grows(model: DecisionTransformer) -> bool:
    """Whether the state after many tokens is larger than after one."""
    tokens = model.norm.weight.new_zeros(1, 64, model.backbone.d_model)
    _, short = model.backbone(tokens[:, :1])
    _, long = model.backbone(tokens)
    return long.nbytes > short.nbytes
