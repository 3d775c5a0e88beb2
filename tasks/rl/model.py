"""The Decision Transformer of the base code (protocol, section 1.1) around either backbone.

Shapes: B windows, K steps, o observed dimensions, a action dimensions, d model width, n episodes acting at once.

A step is three tokens, return-to-go, state, action, in that order.  Each kind has its own linear embedding, all three
of a step the same learned embedding of the absolute time step.  The action of a step is read at its state token, which
sees returns and states up to that step and actions before it.  Padding is on the right, so that under a causal order no
real token sees it: no mask is needed.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aaren import Backbone
from aaren.few_tokens import extend
from aaren.state import State
from tasks.rl.windows import Windows

TOKENS = 3  # a step: return-to-go, state, action
STATE_TOKEN = 1


class DecisionTransformer(nn.Module):
    """Tokens of three kinds -> LayerNorm -> causal backbone -> tanh of a linear head at the state tokens.

    The base code's heads for returns and states are left out: they never enter its loss.  `base_code_parameters`
    counts them in.

    Args:
        observed, actions: dimensions of what is observed and of an action.
        state_mean, state_std: of the training data; kept with the weights, used when acting.
        attention, d_model, n_layers, n_heads, d_ff, dropout, activation, norm: of the backbone, without a final norm.
        timesteps: rows of the time embedding; an episode cannot be longer.

    Raises:
        ValueError: an unknown attention or an impossible size; the message names it.
    """

    state_mean: Tensor
    state_std: Tensor

    def __init__(
        self,
        *,
        observed: int,
        actions: int,
        state_mean: np.ndarray,
        state_std: np.ndarray,
        attention: str,
        d_model: int = 128,
        n_layers: int = 3,
        n_heads: int = 1,
        d_ff: int = 512,
        dropout: float = 0.1,
        activation: str = "gelu",
        norm: str = "post",
        timesteps: int = 4096,
    ) -> None:
        super().__init__()
        if timesteps < 1:
            raise ValueError(f"timesteps={timesteps} must be at least 1")
        self.observed, self.actions, self.timesteps = observed, actions, timesteps
        self.embed_return = nn.Linear(1, d_model)
        self.embed_state = nn.Linear(observed, d_model)
        self.embed_action = nn.Linear(actions, d_model)
        self.embed_time = nn.Embedding(timesteps, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.backbone = Backbone(
            attention,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            dropout=dropout,
            norm=norm,
            activation=activation,
            final_norm=False,
        )
        self.head = nn.Linear(d_model, actions)
        self.register_buffer("state_mean", torch.as_tensor(np.asarray(state_mean, np.float32)))
        self.register_buffer("state_std", torch.as_tensor(np.asarray(state_std, np.float32)))

    @property
    def base_code_parameters(self) -> int:
        """Parameters with the base code's return and state heads, which are trained by nothing, counted in."""
        width = self.head.in_features + 1
        return sum(p.numel() for p in self.parameters()) + width + width * self.observed

    def standardise(self, observations: Float[Tensor, "... o"]) -> Float[Tensor, "... o"]:
        """Raw observations as the model was trained to see them."""
        return (observations - self.state_mean) / self.state_std

    def tokens(
        self,
        returns_to_go: Float[Tensor, "B K 1"],
        states: Float[Tensor, "B K o"],
        actions: Float[Tensor, "B K a"],
        timesteps: Int[Tensor, "B K"],
    ) -> Float[Tensor, "B 3*K d"]:
        """The tokens R_0, s_0, a_0, R_1, s_1, a_1 ... that the backbone sees."""
        parts = [self.embed_return(returns_to_go), self.embed_state(states), self.embed_action(actions)]
        steps = torch.stack(parts, 2) + self.embed_time(timesteps)[:, :, None]  # [B, K, 3, d]
        return self.norm(steps.flatten(1, 2))

    def forward(self, windows: Windows) -> Float[Tensor, "B K a"]:
        """The action at every step of the windows; those at padded steps mean nothing."""
        tokens = self.tokens(windows.returns_to_go, windows.states, windows.actions, windows.timesteps)
        y, _ = self.backbone(tokens, read=slice(STATE_TOKEN, None, TOKENS))
        return torch.tanh(self.head(y))

    def fresh_tokens(
        self,
        step: int,
        returns_to_go: Float[Tensor, " n"],
        observations: Float[Tensor, "n o"],
        last_action: Float[Tensor, "n a"] | None,
    ) -> Float[Tensor, "n new d"]:
        """The tokens that are new at a step of n episodes: the action of the step before (if any), R and s.

        Args:
            step: the absolute time step.
            returns_to_go: in the units of the training data (scaled).
            observations: raw.
            last_action: None at the start.
        """
        table = self.embed_time.weight
        parts = [self.embed_return(returns_to_go[:, None]), self.embed_state(self.standardise(observations))]
        parts = [part + table[step] for part in parts]
        if last_action is not None:
            parts.insert(0, self.embed_action(last_action) + table[step - 1])
        return self.norm(torch.stack(parts, 1))

    def act(self, tokens: Float[Tensor, "n seen d"]) -> Float[Tensor, "n a"]:
        """The action read at the last of `tokens`, a state token; they are all that is seen."""
        y, _ = self.backbone(tokens, read=slice(-1, None))
        return torch.tanh(self.head(y[:, 0]))

    def act_after(self, tokens: Float[Tensor, "n new d"], state: State | None) -> tuple[Float[Tensor, "n a"], State]:
        """The same for the tokens that are new since `state`, which may be consumed; and the state after them."""
        y, after = extend(self.backbone, tokens, state, slice(-1, None))
        return torch.tanh(self.head(y[:, 0])), after
