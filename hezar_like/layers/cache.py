"""What a decoder keeps between calls, so that each token is computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FIRST_ROOM = 64


class KeyValues:
    """Keys and values of one attention, growing at the end.

    They live in one buffer with room to grow, so that a step of one token copies one token.
    """

    def __init__(self) -> None:
        self.length = 0
        self._kept: Tensor | None = None  # [batch, 2 * heads, room, channels]: keys, and then values

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds some, [batch, heads, new, channels] each, and returns all."""
        heads, new = keys.size(1), keys.size(2)
        room = self._room(new, keys.requires_grad)
        if room is None:
            return self.append_both(torch.cat((keys, values), 1))
        room.narrow(1, 0, heads).copy_(keys)
        room.narrow(1, heads, heads).copy_(values)
        self.length += new
        return self.read()

    def append_both(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Adds keys and values as they stand beside each other, [batch, 2 * heads, new, channels]."""
        room = self._room(both.size(2), both.requires_grad)
        if room is None:
            self._grow(both)
        else:
            room.copy_(both)
        self.length += both.size(2)
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, [batch, heads, length, channels] each."""
        assert self._kept is not None
        keys, values = self._kept.narrow(2, 0, self.length).chunk(2, 1)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keeps these rows of the batch, in this order; a row may be kept several times.

        Args:
            rows: [new batch] int64.
        """
        self._kept = None if self._kept is None else self._kept.index_select(0, rows)

    def expand(self, times: int) -> None:
        """Keeps every row of the batch so many times."""
        self._kept = None if self._kept is None else self._kept.repeat_interleave(times, 0)

    def move(self, sources: Tensor, targets: Tensor, start: int) -> None:
        """Copies what stands from `start` on of some rows, [moved] int64, to others."""
        if self._kept is not None:
            part = self._kept[:, :, start : self.length]
            part[targets] = part[sources]

    def forget(self, count: int) -> None:
        """Takes back the last positions."""
        self.length -= count

    def _room(self, new: int, requires_grad: bool) -> Tensor | None:
        """Where new positions go; None where there is no room, or writing in place would break gradients."""
        kept = self._kept
        if kept is None or self.length + new > kept.size(2) or requires_grad or kept.requires_grad:
            return None
        return kept.narrow(2, self.length, new)

    def _grow(self, both: Tensor) -> None:
        old, start, needed = self._kept, self.length, self.length + both.size(2)
        if both.requires_grad or (old is not None and old.requires_grad):
            self._kept = both if old is None else torch.cat((old[:, :, :start], both), 2)
            return
        room = max(FIRST_ROOM, needed + needed // 2) if start else needed
        self._kept = both.new_empty(*both.shape[:2], room, both.size(3))
        if old is not None:
            self._kept[:, :, :start] = old[:, :, :start]
        self._kept[:, :, start:needed] = both


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
