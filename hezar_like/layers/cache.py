"""What a decoder keeps between calls, so that each token is computed once."""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_ROOM = 64


class KeyValues:
    """Keys and values of one attention, growing at the end.

    They live in buffers with room to grow, so that a step of one token copies one token.
    """

    def __init__(self) -> None:
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds some, [batch, heads, new, channels] each, and returns all."""
        self._keys = self._grown(self._keys, keys)
        self._values = self._grown(self._values, values)
        self.length += keys.size(2)
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, [batch, heads, length, channels] each."""
        assert self._keys is not None and self._values is not None
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keeps these rows of the batch, in this order; a row may be kept several times.

        Args:
            rows: [new batch] int64.
        """
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys.index_select(0, rows), self._values.index_select(0, rows)

    def _grown(self, old: Tensor | None, new: Tensor) -> Tensor:
        if new.requires_grad or (old is not None and old.requires_grad):  # writing in place would break gradients
            return new if old is None else torch.cat((old[:, :, : self.length], new), 2)
        needed = self.length + new.size(2)
        if old is None or needed > old.size(2):
            room = max(FIRST_ROOM, needed + needed // 2) if self.length else needed
            grown = new.new_empty(*new.shape[:2], room, new.size(3))
            if old is not None:
                grown[:, :, : self.length] = old[:, :, : self.length]
            old = grown
        old[:, :, self.length : needed] = new
        return old


class Cache:
    """Keys and values of all blocks of a decoder; it grows with every call it is given to.

    Args:
        layers: Number of blocks.

    Attributes:
        own: Of each block's attention over what was decoded.
        cross: Of each block's attention over the encoder's output.
    """

    def __init__(self, layers: int) -> None:
        self.own = [KeyValues() for _ in range(layers)]
        self.cross = [KeyValues() for _ in range(layers)]
        self._mask: Tensor | None = None

    @property
    def length(self) -> int:
        """How many positions were decoded."""
        return self.own[0].length if self.own else 0

    def whole_mask(self, mask: Tensor | None, new: int) -> Tensor | None:
        """The attention mask of earlier and new tokens, which is remembered for the next call.

        Args:
            mask: Of both, or of the new ones only, [batch, length]; None where all are to be seen. One with more
                dimensions is returned as it is.
            new: Number of new tokens.
        """
        if mask is not None and mask.ndim != 2:
            return mask
        if mask is None and self._mask is not None:
            mask = self._mask.new_ones(len(self._mask), new)
        if mask is not None and self.length and mask.size(1) == new:
            earlier = mask.new_ones(len(mask), self.length) if self._mask is None else self._mask
            mask = torch.cat((earlier.to(mask.dtype), mask), 1)
        self._mask = mask
        return mask

    def select(self, rows: Tensor) -> None:
        """Keeps these rows of the batch, in this order; see `KeyValues.select`."""
        if self._mask is not None:
            self._mask = self._mask.index_select(0, rows)
        for kept in (*self.own, *self.cross):
            kept.select(rows)
