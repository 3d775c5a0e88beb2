"""The state of prefix attention, and the paper's associative operator on it (section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aaren._typing import Float


class PrefixState(NamedTuple):
    """What a prefix leaves behind, one triple per (batch, head): the paper's (m, u, w) of a set of tokens.

    m: [B, H]     largest score,                        -inf for the empty prefix
    u: [B, H]     sum of exp(score - m),                0
    w: [B, H, D]  sum of exp(score - m) * value,        0

    float64 wherever the device has it: float32 sums err by 1e-4 over ten million tokens.
    """

    m: Float[Tensor, "B H"]
    u: Float[Tensor, "B H"]
    w: Float[Tensor, "B H D"]


def initial_prefix_state(batch: int, heads: int, dim: int, *, device: torch.device | str | None = None) -> PrefixState:
    """The state before the first token: the identity (-inf, 0, 0) of `combine`.

    The paper starts from (0, 0, 0), which underflows to 0/0 when every score is far below 0.
    """
    dtype = state_dtype(device)
    m = torch.full((batch, heads), -torch.inf, dtype=dtype, device=device)
    u = torch.zeros((batch, heads), dtype=dtype, device=device)
    w = torch.zeros((batch, heads, dim), dtype=dtype, device=device)
    return PrefixState(m, u, w)


def state_dtype(device: torch.device | str | None) -> torch.dtype:
    """float64, or float32 on the one kind of device that has no float64."""
    kind = "cpu" if device is None else torch.device(device).type
    return torch.float32 if kind == "mps" else torch.float64


def finite_reference(m: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """m with -inf replaced by 0: exp(-inf - m) is then an exact 0, not exp(nan), and so is its gradient."""
    return torch.where(m == -torch.inf, torch.zeros_like(m), m)


def combine(left: tuple[Tensor, Tensor, Tensor], right: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The triple of two token sets together (the paper's operator; associative, with identity (-inf, 0, 0)).

    Each argument: m [...], u [...], w [..., D]; the leading shapes broadcast.
    """
    m_left, u_left, w_left = left
    m_right, u_right, w_right = right
    m = torch.maximum(m_left, m_right)
    reference = finite_reference(m)
    scale_left = torch.exp(m_left - reference)  # both scales are in [0, 1], one of them is 1
    scale_right = torch.exp(m_right - reference)
    u = u_left * scale_left + u_right * scale_right
    w = w_left * scale_left[..., None] + w_right * scale_right[..., None]
    return m, u, w


def readout(u: Float[Tensor, "*S"], w: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
    """The attention output w / u, and 0 for the empty set, with a finite gradient there too."""
    return w / torch.where(u == 0, torch.ones_like(u), u)[..., None]
