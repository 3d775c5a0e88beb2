"""Prefix attention one token at a time: constant memory, constant time, plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from aaren._typing import Bool, Float
from aaren.ops.state import PrefixState, finite_reference, readout


def prefix_step(
    scores: Float[Tensor, "B H"],
    values: Float[Tensor, "B H D"],
    state: PrefixState,
    valid: Bool[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, "B H D"], PrefixState]:
    """Absorb one token and attend to the prefix that it ends (the paper's recurrence, section 3.1).

    Args:
        scores: one score a head.
        values: one value a head.
        state: of the tokens before; `initial_prefix_state(B, H, D)` at the start.
        valid: True = real. Where False the state stays as it was and the output is 0.

    Returns:
        The output [B, H, D] in the dtype of `values`, and the new state (new tensors; `state` is left alone).

    Raises:
        TypeError: a state in half precision.
        ValueError: a state of another batch or model.
    """
    if state.m.shape != scores.shape or state.u.shape != scores.shape or state.w.shape != values.shape:
        raise ValueError(
            f"prefix_step: a state of shapes {[tuple(tensor.shape) for tensor in state]} does not fit scores "
            f"{tuple(scores.shape)} and values {tuple(values.shape)}; it belongs to the batch and model that made it"
        )
    if state.u.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"prefix_step: the state is {state.u.dtype}, too coarse for running sums; keep it in the dtype it was "
            "returned in (float64)"
        )
    s = scores.to(state.m.dtype)
    if valid is not None:
        s = s.masked_fill(~valid[:, None], -torch.inf)
        values = values.masked_fill(~valid[:, None, None], 0)
    m = torch.maximum(state.m, s)
    reference = finite_reference(m)
    keep = torch.exp(state.m - reference)
    weight = torch.exp(s - reference)
    u = state.u * keep + weight
    w = state.w * keep[..., None] + weight[..., None] * values
    output = readout(u, w).to(values.dtype)
    if valid is not None:
        output = output.masked_fill(~valid[:, None, None], 0)
    return output, PrefixState(m, u, w)
