"""The Transformer's memory of a stream: keys and values of every token so far.

Preallocated and doubled when full, so that appending one token costs O(1) amortised copies instead of the
O(n) of a concatenation a token.  It grows with the stream all the same: that is what Aaren does away with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from aaren._typing import Bool, Float


@dataclass
class KeyValueCache:
    """Keys and values [B, H, capacity, D], of which the first `length` tokens are written.

    `valid` [B, capacity] is None while every token seen was real.
    """

    keys: Float[Tensor, "B H C D"]
    values: Float[Tensor, "B H C D"]
    valid: Bool[Tensor, "B C"] | None
    length: int

    @classmethod
    def empty(cls, batch: int, n_heads: int, d_head: int, *, like: Tensor, capacity: int = 16) -> KeyValueCache:
        """A cache that has seen nothing, of the dtype and device of `like`."""
        shape = (batch, n_heads, capacity, d_head)
        return cls(like.new_zeros(shape), like.new_zeros(shape), None, 0)

    @property
    def keys_seen(self) -> Float[Tensor, "B H L D"]:
        """The keys written so far, a view."""
        return self.keys[:, :, : self.length]

    @property
    def values_seen(self) -> Float[Tensor, "B H L D"]:
        """The values written so far, a view."""
        return self.values[:, :, : self.length]

    def append(
        self,
        keys: Float[Tensor, "B H n D"],
        values: Float[Tensor, "B H n D"],
        valid: Bool[Tensor, "B n"] | None,
    ) -> KeyValueCache:
        """The cache with n more tokens; consumes this one (its memory is reused where gradients allow).

        Raises:
            ValueError: the cache belongs to a batch of another size.
        """
        if keys.shape[0] != self.keys.shape[0]:
            raise ValueError(
                f"state of {self.keys.shape[0]} streams continued with a batch of {keys.shape[0]}; "
                "use state.select(rows) to make them agree"
            )
        end = self.length + keys.shape[2]
        if valid is None and self.valid is not None:
            valid = self.valid.new_ones(keys.shape[0], keys.shape[2])
        old_valid = self.valid
        if valid is not None and old_valid is None:
            old_valid = valid.new_ones(self.keys.shape[0], self.keys.shape[2])
        if torch.is_grad_enabled() and (self.keys.requires_grad or keys.requires_grad):
            # Writing in place would change tensors that an earlier step's gradient needs.
            new_valid = (
                None if valid is None or old_valid is None else torch.cat([old_valid[:, : self.length], valid], 1)
            )
            return KeyValueCache(
                torch.cat([self.keys_seen, keys], 2), torch.cat([self.values_seen, values], 2), new_valid, end
            )
        all_keys = _with_room(self.keys, 2, self.length, end)
        all_values = _with_room(self.values, 2, self.length, end)
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        if valid is not None and old_valid is not None:
            old_valid = _with_room(old_valid, 1, self.length, end)
            old_valid[:, self.length : end] = valid
        return KeyValueCache(all_keys, all_values, old_valid, end)

    def causal_mask(self, n: int) -> Bool[Tensor, "#B 1 n L"]:
        """What each of the last n tokens may look at: itself and what came before, if real."""
        mask = torch.ones(n, self.length, dtype=torch.bool, device=self.keys.device)
        mask = mask.tril(self.length - n)[None, None]
        return mask if self.valid is None else mask & self.valid[:, None, None, : self.length]


def _with_room(old: Tensor, dim: int, length: int, needed: int) -> Tensor:
    """`old` itself if `needed` entries fit along `dim`, else a copy of the first `length` in twice the room."""
    frozen = old.is_inference() and not torch.is_inference_mode_enabled()  # such a tensor cannot be written
    if needed <= old.shape[dim] and not frozen:
        return old
    shape = list(old.shape)
    shape[dim] = max(needed, 2 * old.shape[dim]) if needed > old.shape[dim] else old.shape[dim]
    new = old.new_zeros(shape)
    new.narrow(dim, 0, length).copy_(old.narrow(dim, 0, length))
    return new


pytree.register_dataclass(KeyValueCache, field_names=["keys", "values", "valid", "length"])
