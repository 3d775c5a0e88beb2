"""A stream: tokens in, outputs out, the state kept inside.

    stream = Stream(backbone)        # one stream; batch=n for n independent ones
    y_t = stream(x_t)                # [n, d_model] in and out

Aaren's stream has the same cost and size after ten million tokens as after ten; a Transformer's grows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aaren._typing import Bool, Float
from aaren.backbone import Backbone
from aaren.cache import KeyValueCache
from aaren.state import State, tensors


class Stream:
    """`batch` independent streams through a `Backbone` in evaluation mode, without gradients.

    The parameters are the backbone's own: many streams may share one, each with its own state.

    Args:
        backbone: in evaluation mode (`backbone.eval()`), around any registered attention.
        batch: number of streams, one row each.

    Raises:
        ValueError: no streams, or a backbone in training mode.
    """

    def __init__(self, backbone: Backbone, batch: int = 1) -> None:
        if batch < 1:
            raise ValueError(f"batch={batch}: a Stream holds at least one stream")
        self.backbone, self.batch = backbone, batch
        self._like = next(backbone.parameters())
        self._check_mode()
        self._state = self._fresh(batch)

    def __call__(
        self,
        x_t: Float[Tensor, "B d"],
        valid_t: Bool[Tensor, " B"] | None = None,
        inject_t: Float[Tensor, "B d"] | None = None,
    ) -> Float[Tensor, "B d"]:
        """One token a stream; streams whose `valid_t` is False are left as they are.

        Raises:
            ValueError: shapes, dtypes or devices that do not belong together, or a backbone in training mode.
        """
        self._check(x_t, inject_t)
        with torch.no_grad():
            y_t, self._state = self.backbone.step(x_t, self._state, valid_t, inject_t)
        return y_t

    def extend(
        self,
        x: Float[Tensor, "B N d"],
        valid: Bool[Tensor, "B N"] | None = None,
        inject: Float[Tensor, "B N d"] | None = None,
    ) -> Float[Tensor, "B N d"]:
        """N tokens a stream at once, in parallel: the same numbers as one by one.

        Raises:
            ValueError: as for one token; or no tokens.
        """
        self._check(x, inject)
        with torch.no_grad():
            y, self._state = self.backbone(x, valid, self._state, inject)
        return y

    def reset(self, rows: Tensor | slice | list[int] | None = None) -> None:
        """Forget all that was seen, in some rows or (None) in all of them.

        Raises:
            ValueError: rows given, but the attention's state cannot be reset by rows.
        """
        fresh = self._fresh(self.batch)
        with torch.no_grad():
            self._state = fresh if rows is None else self._state.forget(rows, fresh)

    def fork(self) -> Stream:
        """Another stream from here on: what one sees from now on is nothing to the other."""
        other = Stream(self.backbone, self.batch)
        other._state = self._state.clone()
        return other

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return self._state.nbytes

    @property
    def state(self) -> State:
        """A copy of the state; assigning one (of as many streams through such a backbone) goes on from there."""
        return self._state.clone()

    @state.setter
    def state(self, state: State) -> None:
        fresh = self._fresh(self.batch)
        if len(state.layers) != len(fresh.layers):
            raise ValueError(
                f"state of {len(state.layers)} layers given to a backbone of {len(fresh.layers)}; "
                "it belongs to another model"
            )
        for i, (given, own) in enumerate(zip(state.layers, fresh.layers, strict=True)):
            _check_layer(f"state.layers[{i}]", given, own)
        self._state = state.clone()

    def _fresh(self, batch: int) -> State:
        with torch.no_grad():
            return self.backbone.initial_state(batch)

    def _check_mode(self) -> None:
        if self.backbone.training:
            raise ValueError("the backbone is in training mode, where dropout acts: call backbone.eval() first")

    def _check(self, x: Tensor, inject: Tensor | None) -> None:
        self._check_mode()
        if x.shape[0] != self.batch:
            raise ValueError(f"x has {x.shape[0]} rows, but there are {self.batch} streams, one row each")
        for name, tensor in (("x", x), ("inject", inject)):
            if tensor is None:
                continue
            if tensor.device != self._like.device:
                raise ValueError(
                    f"{name} is on {tensor.device} and the backbone on {self._like.device}; move one of them"
                )
            if tensor.dtype != self._like.dtype and not torch.is_autocast_enabled(tensor.device.type):
                raise ValueError(f"{name} is {tensor.dtype} and the backbone {self._like.dtype}; cast one of them")


def _check_layer(name: str, given: Any, own: Any) -> None:
    """That a layer's state can take the place of the backbone's own empty one.

    Raises:
        ValueError: another kind of state, or one of other sizes, dtypes or devices.
    """
    if type(given) is not type(own):
        raise ValueError(
            f"{name} is a {type(given).__name__}, this backbone's is a {type(own).__name__}: "
            "it belongs to another attention"
        )
    grows = isinstance(own, KeyValueCache)
    for mine, theirs in zip(tensors(own), tensors(given), strict=False):  # a cache may have a mask besides
        expected, shape = list(mine.shape), list(theirs.shape)
        if grows and len(shape) == len(expected):
            expected[2] = shape[2]  # its room
        if shape != expected:
            raise ValueError(
                f"{name} has a tensor of shape {tuple(shape)} where this stream's is {tuple(expected)}: "
                "it belongs to another batch (State.select picks rows) or to another model"
            )
        if theirs.dtype != mine.dtype or theirs.device != mine.device:
            raise ValueError(
                f"{name} has a tensor of {theirs.dtype} on {theirs.device} where this stream's is {mine.dtype} on "
                f"{mine.device}; keep a state in the precision it was given in, and move it with State.to(device)"
            )
