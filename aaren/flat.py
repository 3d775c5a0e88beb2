"""A stream's state as flat tensors of fixed shape, for runtimes that know tensors and nothing else.

Aaren's state has that form already. A Transformer's cache grows, so it is given all the room that it will ever need,
and a position that says how much of it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from aaren._typing import Bool, Float, Int
from aaren.backbone import Backbone
from aaren.cache import KeyValueCache
from aaren.state import State


@dataclass(frozen=True)
class Port:
    """One tensor that goes in or out of a step.

    Args:
        name: of the tensor.
        shape: without the batch, which every port has as its first dimension.
        dtype: NumPy's name of it.
        meaning: a line for whoever feeds or reads it, units included.
        start: of a state, its value before the first step, [*shape] or a scalar that fills it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: str
    start: Any = None

    def tensor(self, batch: int) -> Tensor:
        """The value before the first step, or zeros for a port without one, [batch, *shape]."""
        value = torch.as_tensor(0 if self.start is None else self.start, dtype=getattr(torch, self.dtype))
        return value.expand(batch, *self.shape).clone()

    def describe(self) -> dict[str, Any]:
        """The port as JSON types; an infinity or NaN is written as its name, which NumPy reads back."""
        facts = {"name": self.name, "shape": ["batch", *self.shape], "dtype": self.dtype, "meaning": self.meaning}
        if self.start is None:
            return facts
        start = torch.as_tensor(self.start)
        return facts | {"start": start.tolist() if start.isfinite().all() else str(start.tolist())}


class BoundedCache(KeyValueCache):
    """A key/value cache with all its room from the start, of which `position` [B] tokens of each row are written.

    Rows may be of different ages.  A token past the room is not written; `FlatState.guard` makes that known.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, position: Int[Tensor, " B"], valid: Bool[Tensor, "B C"] | None = None
    ) -> None:
        super().__init__(keys, values, valid, keys.shape[2])
        self.position = position

    def append(self, keys: Tensor, values: Tensor, valid: Bool[Tensor, "B n"] | None) -> BoundedCache:
        """The cache with one more token; a row whose token is not valid stays as it is.

        Raises:
            ValueError: more than one token.
        """
        if keys.shape[2] != 1:
            raise ValueError(f"{keys.shape[2]} tokens at once: a bounded cache takes one at a time")
        slots = torch.arange(self.keys.shape[2], device=self.keys.device)
        here = slots == self.position[:, None]  # [B, C]
        position = self.position + 1
        if valid is not None:
            here, position = here & valid, self.position + valid[:, 0]
        new = here[:, None, :, None]
        keys, values = torch.where(new, keys, self.keys), torch.where(new, values, self.values)
        return BoundedCache(keys, values, position, slots < position[:, None])


def state_grows(backbone: Backbone) -> bool:
    """Whether the state holds every token of the stream (a key/value cache), so that an export needs a capacity."""
    return any(isinstance(layer, KeyValueCache) for layer in backbone.initial_state(1).layers)


class FlatState:
    """How the state of `backbone` lies in flat tensors: `position`, then every layer's.

    Args:
        backbone: any.
        capacity: the most tokens a stream may have; needed where the state grows with the stream.

    Raises:
        ValueError: a state that grows without a `capacity`, or one that is not made of tensors of fixed shape.
    """

    def __init__(self, backbone: Backbone, capacity: int | None = None) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity={capacity}: a stream has at least one token")
        before = backbone.initial_state(1)
        grows = state_grows(backbone)
        if grows and capacity is None:
            raise ValueError(
                "this backbone's state grows with the stream: give a capacity, the most tokens a stream may have "
                "(Aaren's state does not grow)"
            )
        self.capacity = capacity
        self.ports = [Port("position", (), "int64", "tokens absorbed so far", 0)]
        self._specs: list[pytree.TreeSpec | None] = []  # None: a bounded cache
        for number, layer in enumerate(before.layers):
            if isinstance(layer, KeyValueCache):
                assert capacity is not None
                shape = (layer.keys.shape[1], capacity, layer.keys.shape[3])
                self.ports += [
                    Port(f"layer{number}.{name}", shape, _name(layer.keys), f"{name} [heads, tokens, width]", 0)
                    for name in ("keys", "values")
                ]
                self._specs.append(None)
            else:
                self.ports += _ports(number, layer)
                self._specs.append(pytree.tree_structure(layer))
        if not grows:
            _refuse_growth(backbone, before)

    @property
    def nbytes(self) -> int:
        """Bytes of one stream's state."""
        return sum(port.tensor(1).nbytes for port in self.ports)

    def unflatten(self, tensors: Sequence[Tensor]) -> State:
        """The `State` that `Backbone.step` takes, from the tensors of `ports`."""
        position, *rest = tensors
        leaves, layers = iter(rest), []
        for spec in self._specs:
            if spec is None:
                layers.append(BoundedCache(next(leaves), next(leaves), position))
            else:
                layers.append(pytree.tree_unflatten([next(leaves) for _ in range(spec.num_leaves)], spec))
        return State(tuple(layers))

    def flatten(self, state: State, position: Int[Tensor, " B"]) -> list[Tensor]:
        """The tensors of `ports` from a `State` that has absorbed `position` tokens."""
        flat = [position]
        for layer in state.layers:
            bounded = isinstance(layer, KeyValueCache)
            flat += [layer.keys, layer.values] if bounded else pytree.tree_leaves(layer)
        return flat

    def guard(self, output: Float[Tensor, "B ..."], position: Int[Tensor, " B"]) -> Float[Tensor, "B ..."]:
        """`output`, but NaN in rows with more tokens in than `capacity`: better no number than a wrong one."""
        if self.capacity is None:
            return output
        fits = (position <= self.capacity).reshape(-1, *[1] * (output.ndim - 1))
        return torch.where(fits, output, output.new_full((), torch.nan))


def _ports(number: int, layer: Any) -> list[Port]:
    ports = []
    for path, leaf in pytree.tree_flatten_with_path(layer)[0]:
        name = f"layer{number}.{'.'.join(str(getattr(key, 'name', getattr(key, 'idx', key))) for key in path)}"
        if not isinstance(leaf, Tensor):
            raise ValueError(f"{name} of the state is a {type(leaf).__name__}, not a tensor: it cannot be exported")
        same = bool((leaf == leaf.flatten()[0]).all()) if leaf.numel() else False
        start = leaf.flatten()[0].item() if same else leaf[0].tolist()
        ports.append(Port(name, tuple(leaf.shape[1:]), _name(leaf), "the layer's state", start))
    return ports


def _refuse_growth(backbone: Backbone, before: State) -> None:
    """One token more may not change a shape."""
    shapes = [(t.shape, t.dtype) for t in before.tensors]
    with torch.no_grad():
        weight = next(backbone.parameters())
        _, after = backbone.step(weight.new_zeros(1, backbone.d_model), before)
    if [(t.shape, t.dtype) for t in after.tensors] != shapes:
        raise ValueError("this backbone's state changes its shape from token to token: it cannot be exported")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
