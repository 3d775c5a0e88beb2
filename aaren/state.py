"""What a stream remembers: a pytree of tensors, one entry per layer.

Every attention keeps its own kind of layer state (Aaren: the paper's (m, u, w), constant in size;
CausalSelfAttention: a key/value cache, which grows).  `State` gathers the layers and offers what a
user of a stream needs: its size, a copy, the rows of a batch, and a form that can be saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def tensors(state: Any) -> list[Tensor]:
    """The tensors of a state, in a fixed order."""
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def map_tensors(function: Any, state: Any) -> Any:
    """The same state with `function` applied to each of its tensors."""
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, state)


@dataclass
class State:
    """The state of a `Backbone`: `layers[j]` belongs to layer j (paper, section 3)."""

    layers: tuple[Any, ...]

    @property
    def nbytes(self) -> int:
        """Bytes held by the state's tensors, spare room of a growing cache included."""
        return sum(
            t.untyped_storage().nbytes() for t in {t.untyped_storage().data_ptr(): t for t in self.tensors}.values()
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        return tensors(self.layers)

    def clone(self) -> State:
        """A copy that shares no memory: `step` may consume the state it is given."""
        return State(map_tensors(torch.clone, self.layers))

    def detach(self) -> State:
        """The same values without a history of gradients."""
        return State(map_tensors(torch.detach, self.layers))

    def select(self, rows: Tensor | slice | list[int]) -> State:
        """The state of some rows of the batch, as a copy; rows may repeat or change order."""
        index = torch.as_tensor(rows) if isinstance(rows, list) else rows
        return State(map_tensors(lambda t: t[index].clone(), self.layers))

    def forget(self, rows: Tensor | slice | list[int], fresh: State) -> State:
        """The state with some rows as in `fresh`, a state that has seen nothing; a copy but for a cache's memory.

        A layer's state that is more than tensors with the batch first brings its own `forget(rows)`.

        Raises:
            ValueError: it does not.
        """
        index = torch.as_tensor(rows) if isinstance(rows, list) else rows
        layers = []
        for mine, empty in zip(self.layers, fresh.layers, strict=True):
            if hasattr(mine, "forget"):
                layers.append(mine.forget(index))
                continue
            own, news = tensors(mine), tensors(empty)
            if [tensor.shape for tensor in own] != [tensor.shape for tensor in news]:
                raise ValueError(
                    f"a {type(mine).__name__} cannot be reset by rows: its tensors change their shapes with the "
                    "stream; give it a method forget(rows)"
                )
            cleared = [tensor.clone() for tensor in own]
            for tensor, new in zip(cleared, news, strict=True):
                tensor[index] = new[index]
            replaced = iter(cleared)
            layers.append(map_tensors(lambda _, replaced=replaced: next(replaced), mine))
        return State(tuple(layers))

    def to(self, *args: Any, **kwargs: Any) -> State:
        """Move every tensor as `Tensor.to` does; the precision of a state is the operator's to choose."""
        return State(map_tensors(lambda t: t.to(*args, **kwargs), self.layers))

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors, for `torch.save` or safetensors; `load_state_dict` is the way back."""
        return {f"layers.{i}.{j}": t for i, layer in enumerate(self.layers) for j, t in enumerate(tensors(layer))}

    def load_state_dict(self, saved: dict[str, Tensor]) -> State:
        """A state of this one's structure with the saved tensors in it.

        Raises:
            ValueError: names or trailing shapes that do not belong to a state of this structure.
        """
        mine = self.state_dict()
        if mine.keys() != saved.keys():
            raise ValueError(
                f"saved state has entries {sorted(saved)}, this backbone's has {sorted(mine)}: "
                "it was saved by a backbone with other layers; build that one and load into it"
            )
        for name, tensor in saved.items():
            if tensor.ndim != mine[name].ndim or tensor.dtype != mine[name].dtype:
                raise ValueError(
                    f"saved state entry {name} is {tensor.dtype} with {tensor.ndim} dimensions, expected "
                    f"{mine[name].dtype} with {mine[name].ndim}: it was saved by another kind of backbone"
                )
        leaves = iter([saved[name] for name in mine])
        return State(map_tensors(lambda _: next(leaves), self.layers))


pytree.register_dataclass(State, field_names=["layers"])
