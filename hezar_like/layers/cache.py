"""What a decoder keeps between calls, so that each token is computed once."""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_ROOM = 64


class KeyValues:
    """Keys and values of one attention, growing at the end.

    They live in a buffer with room to grow, so that a step of one token copies one token. Later ones are kept in the
    type of the first.
    """

    def __init__(self) -> None:
        self.length = 0
        self._kept: Tensor | None = None  # keys and values, [2, batch, heads, room, channels]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds some, [batch, heads, new, channels] each, and returns all."""
        start, end = self.length, self.length + keys.size(2)
        if self._kept is None or end > self._kept.size(3) or self._has_gradients(keys):
            self._kept = self._grown(keys, values)
        else:
            new = self._kept.narrow(3, start, end - start)
            new[0].copy_(keys)
            new[1].copy_(values)
        self.length = end
        return self.read()

    def append_projected(self, projected: Tensor, heads: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
        """Adds one token, in few steps.

        Args:
            projected: Queries, keys and values beside each other, [batch, (heads + 2 * others) * channels], where
                `others` is the number of heads that keys and values have.
            heads: Of the queries.
            channels: Of a head.

        Returns:
            The queries, [batch, heads, 1, channels], and all keys and values.
        """
        batch, width = projected.shape
        row, offset = projected.stride(0), projected.storage_offset()
        others = (width // channels - heads) // 2
        queries = projected.as_strided((batch, heads, 1, channels), (row, channels, channels, 1), offset)
        new = projected.as_strided(
            (2, batch, others, 1, channels),
            (others * channels, row, channels, channels, 1),
            offset + heads * channels,
        )
        kept = self._kept
        if kept is None or self.length == kept.size(3) or self._has_gradients(projected):
            return queries, *self.append(new[0], new[1])
        size, strides, start = kept.shape, kept.stride(), self.length
        kept.as_strided(new.shape, strides, start * strides[3]).copy_(new)
        self.length = start + 1
        shape, strides_of_one = (size[1], size[2], self.length, size[4]), strides[1:]
        return queries, kept.as_strided(shape, strides_of_one, 0), kept.as_strided(shape, strides_of_one, strides[0])

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, [batch, heads, length, channels] each."""
        assert self._kept is not None
        keys, values = self._kept.narrow(3, 0, self.length).unbind(0)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keeps these rows of the batch, in this order; a row may be kept several times.

        Args:
            rows: [new batch] int64.
        """
        if self._kept is not None:
            self._kept = self._kept.index_select(1, rows)

    def expand(self, times: int) -> None:
        """Keeps every row of the batch so many times."""
        if self._kept is not None:
            self._kept = self._kept.repeat_interleave(times, 1)

    def move(self, sources: Tensor, targets: Tensor, start: int) -> None:
        """Copies what stands from `start` on of some rows, [moved] int64, to others."""
        if self._kept is not None:
            part = self._kept[:, :, :, start : self.length]
            part.index_copy_(1, targets, part.index_select(1, sources))

    def forget(self, count: int) -> None:
        """Takes back the last positions."""
        self.length -= count

    def _has_gradients(self, new: Tensor) -> bool:
        """Whether writing in place would break gradients."""
        return new.requires_grad or (self._kept is not None and self._kept.requires_grad)

    def _grown(self, keys: Tensor, values: Tensor) -> Tensor:
        new, old, start = torch.stack((keys, values)), self._kept, self.length
        needed = start + keys.size(2)
        if self._has_gradients(new):
            return new if old is None else torch.cat((old[:, :, :, :start], new), 3)
        room = max(FIRST_ROOM, needed + needed // 2) if start else needed
        if room == needed and old is None:
            return new
        grown = (new if old is None else old).new_empty(*new.shape[:3], room, new.size(4))
        if old is not None:
            grown[:, :, :, :start] = old[:, :, :, :start]
        grown[:, :, :, start:needed] = new
        return grown


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
