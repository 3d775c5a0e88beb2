"""The fixed position code that the time-series families share."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoid(start: int, count: int, d_model: int, like: Tensor) -> Float[Tensor, "N d"]:
    """The code of `count` positions from `start` on; dtype and device are `like`'s."""
    position = torch.arange(start, start + count, device=like.device, dtype=torch.float64)
    return sinusoid_at(position, d_model).to(like.dtype)


def sinusoid_at(position: Float[Tensor, " N"], d_model: int) -> Float[Tensor, "N d"]:
    """Sines in the even columns, cosines in the odd ones (Vaswani et al. 2017).

    Positions and angles are float64, so that late positions are as exact as early ones.
    """
    pairs = torch.arange(0, d_model, 2, device=position.device, dtype=torch.float64)
    angle = position[:, None] * torch.exp(pairs * (-math.log(10000.0) / d_model))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :d_model]
