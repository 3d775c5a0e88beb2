"""Reading the output at some tokens only: the last block need not project what nobody reads.

A Decision Transformer predicts from every third token, a forecaster perhaps from the last.  Tokens must be mixed
all the same, but the output projection, the residual, the norms and the MLP of the last block act on each token
by itself: they are done where they are read.
"""

from __future__ import annotations

import inspect
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

Read: TypeAlias = slice | Tensor | None

T = TypeVar("T", Tensor, None, Tensor | None)


def at_tokens(x: T, read: Read) -> T:
    """x [B, N, ...] at the tokens of `read`, [B, R, ...]."""
    return x if read is None or x is None else x[:, read]


def knows_read(module: nn.Module) -> bool:
    """Whether the module's `forward` takes `read`; a user's own attention need not."""
    return "read" in inspect.signature(module.forward).parameters


def check_read(read: Read, length: int) -> None:
    """That `read` picks at least one of `length` tokens.

    Raises:
        TypeError: neither a slice nor a one-dimensional int64 tensor.
        ValueError: it picks nothing.
    """
    if read is None:
        return
    if isinstance(read, slice):
        count = len(range(*read.indices(length)))
    elif isinstance(read, Tensor) and read.ndim == 1 and read.dtype == torch.int64:
        count = read.numel()
    else:
        found = f"{read.dtype} of shape {tuple(read.shape)}" if isinstance(read, Tensor) else type(read).__name__
        raise TypeError(f"read is {found}; give a slice or a one-dimensional int64 tensor of token positions")
    if count == 0:
        raise ValueError(f"read={read} picks none of {length} tokens")
