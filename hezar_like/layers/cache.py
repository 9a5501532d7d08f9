"""What a decoder keeps between calls, so that each token is computed once."""

from __future__ import annotations

from collections.abc import Callable

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
        start, end = self.length, self.length + keys.size(2)
        if self._keys is None or self._values is None or end > self._keys.size(2) or self._has_gradients(keys):
            self._keys, self._values = self._grown(self._keys, keys), self._grown(self._values, values)
        else:
            self._keys.narrow(2, start, end - start).copy_(keys)
            self._values.narrow(2, start, end - start).copy_(values)
        self.length = end
        return self._keys.narrow(2, 0, end), self._values.narrow(2, 0, end)

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, [batch, heads, length, channels] each."""
        assert self._keys is not None and self._values is not None
        return self._keys.narrow(2, 0, self.length), self._values.narrow(2, 0, self.length)

    def select(self, rows: Tensor) -> None:
        """Keeps these rows of the batch, in this order; a row may be kept several times.

        Args:
            rows: [new batch] int64.
        """
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys.index_select(0, rows), self._values.index_select(0, rows)

    def expand(self, times: int) -> None:
        """Keeps every row of the batch so many times."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = (kept.repeat_interleave(times, 0) for kept in (self._keys, self._values))

    def move(self, sources: Tensor, targets: Tensor, start: int) -> None:
        """Copies what stands from `start` on of some rows, [moved] int64, to others."""
        for kept in (self._keys, self._values):
            if kept is not None:
                part = kept[:, :, start : self.length]
                part[targets] = part[sources]

    def forget(self, count: int) -> None:
        """Takes back the last positions."""
        self.length -= count

    def _has_gradients(self, new: Tensor) -> bool:
        """Whether writing in place would break gradients."""
        return new.requires_grad or (self._keys is not None and self._keys.requires_grad)

    def _grown(self, old: Tensor | None, new: Tensor) -> Tensor:
        start, needed = self.length, self.length + new.size(2)
        if self._has_gradients(new):
            return new if old is None else torch.cat((old[:, :, :start], new), 2)
        room = max(FIRST_ROOM, needed + needed // 2) if start else needed
        grown = new.new_empty(*new.shape[:2], room, new.size(3))
        if old is not None:
            grown[:, :, :start] = old[:, :, :start]
        grown[:, :, start:needed] = new
        return grown


class Cache:
    """Keys and values of all blocks of a decoder; it grows with every call it is given to.

    Args:
        layers: Number of blocks.

    Attributes:
        own: Of each block's attention over what was decoded.
        cross: Of each block's attention over the encoder's output.
        run: What runs the decoder's stack in its place, where something faster than its blocks does; takes what
            `Stack.forward` takes.
    """

    def __init__(self, layers: int) -> None:
        self.own = [KeyValues() for _ in range(layers)]
        self.cross = [KeyValues() for _ in range(layers)]
        self.run: Callable[..., Tensor] | None = None
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
        self.select_written(rows)
        self.select_read(rows)

    def select_written(self, rows: Tensor) -> None:
        """Keeps these rows of what was decoded; several neighbouring ones may be for one of the encoder's."""
        if self._mask is not None:
            self._mask = self._mask.index_select(0, rows)
        for kept in self.own:
            kept.select(rows)

    def select_read(self, rows: Tensor) -> None:
        """Keeps these rows of the encoder's output."""
        for kept in self.cross:
            kept.select(rows)

    def expand(self, times: int) -> None:
        """Keeps every row so many times; what is seen of an encoder is kept once for all rows made of one."""
        if self._mask is not None:
            self._mask = self._mask.repeat_interleave(times, 0)
        for kept in self.own:
            kept.expand(times)

    def reorder(self, rows: Tensor, last: int) -> None:
        """Puts rows into the place of others from which they differ in the last positions only; only these are copied.

        Args:
            rows: For each row the one that takes its place, [batch] int64.
            last: Number of positions.
        """
        targets = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        if not len(targets):
            return
        sources = rows[targets]
        if self._mask is not None:
            self._mask[targets] = self._mask[sources]
        for kept in self.own:
            kept.move(sources, targets, self.length - last)

    def forget(self, count: int) -> None:
        """Takes back the last positions of all rows."""
        if count and self._mask is not None:
            self._mask = self._mask[:, :-count]
        for kept in self.own:
            kept.forget(count)
