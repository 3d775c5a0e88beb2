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
        if torch.is_grad_enabled() and (self.keys.requires_grad or keys.requires_grad):
            # Writing in place would change tensors that an earlier step's gradient needs.
            both = [torch.cat(pair, 2) for pair in ((self.keys_seen, keys), (self.values_seen, values))]
            mask = None
            if valid is not None or self.valid is not None:
                all_real = torch.ones(keys.shape[0], self.length + keys.shape[2], dtype=torch.bool, device=keys.device)
                seen = all_real[:, : self.length] if self.valid is None else self.valid[:, : self.length]
                mask = torch.cat([seen, all_real[:, self.length :] if valid is None else valid], 1)
            return KeyValueCache(both[0], both[1], mask, self.length + keys.shape[2])
        longer = self.extended(keys.shape[2], valid)
        longer.keys[:, :, self.length : longer.length] = keys
        longer.values[:, :, self.length : longer.length] = values
        return longer

    def extended(self, n: int, valid: Bool[Tensor, "B n"] | None) -> KeyValueCache:
        """The cache with room for n more tokens, counted but yet to be written; consumes this one, as `append` does."""
        end = self.length + n
        keys, values = (_with_room(t, 2, self.length, end) for t in (self.keys, self.values))
        mask = self.valid
        if valid is not None or mask is not None:
            if mask is None:
                mask = torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool, device=keys.device)
            mask = _with_room(mask, 1, self.length, end)
            mask[:, self.length : end] = True if valid is None else valid
        return KeyValueCache(keys, values, mask, end)

    def forget(self, rows: Tensor | slice) -> KeyValueCache:
        """The cache with all that some rows have seen taken out; shares the memory of this one."""
        mask = torch.ones(self.keys.shape[0], self.keys.shape[2], dtype=torch.bool, device=self.keys.device)
        if self.valid is not None:
            mask[:, : self.length] = self.valid[:, : self.length]
        mask[rows] = False
        return KeyValueCache(self.keys, self.values, mask, self.length)

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
