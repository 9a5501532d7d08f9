"""Texts of a batch behind each other, without padding: linear layers and norms see tokens, attention texts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import Context
from ..layers import Rotary, Rotation

__all__ = [
    "Bucket", "Packed", "Reads", "has_texts", "is_packable", "pack", "reading_only", "reading_padding", "rows_of_texts",
    "tokens_read",
]  # fmt: skip

Reads: TypeAlias = Literal["all", "first", "last"]
"""Which tokens of a text somebody reads what comes out at."""

_local = threading.local()


def tokens_read() -> Reads:
    """Which tokens the caller of this thread reads."""
    reads: Reads = getattr(_local, "reads", "all")
    return reads


@contextmanager
def reading_only(reads: Reads) -> Iterator[None]:
    """Says that in this thread nobody reads what comes out at other tokens."""
    before, _local.reads = tokens_read(), reads
    try:
        yield
    finally:
        _local.reads = before


@contextmanager
def rows_of_texts(span: Tensor | None) -> Iterator[None]:
    """Says that in this thread rows hold several texts, each of which sees itself only, whatever the mask says.

    Args:
        span: Number of each token's text, [rows, length] int64; 0 is padding. None: rows hold one text each.
    """
    before, _local.span = getattr(_local, "span", None), span
    try:
        yield
    finally:
        _local.span = before


@contextmanager
def reading_padding(read: bool) -> Iterator[None]:
    """Says whether in this thread somebody reads what comes out at padding, which then is not left out."""
    before, _local.padding = getattr(_local, "padding", False), read
    try:
        yield
    finally:
        _local.padding = before


def has_texts() -> bool:
    """Whether rows hold several texts in this thread; see `rows_of_texts`."""
    return getattr(_local, "span", None) is not None


def is_packable(context: Context) -> bool:
    """Whether it is known which tokens are of one text, and all of a text see each other, or those before them."""
    if has_texts():
        return context.encoded is None
    return context.is_packable and not getattr(_local, "padding", False)


WIDTH = 16
"""Attention is fastest over texts whose length is a multiple of it: some are filled up for that."""


@dataclass
class Bucket:
    """Neighbouring texts, filled up to one length.

    Attributes:
        tokens: Where they are among all tokens.
        count: How many texts.
        length: Of each when filled up.
        read: The one token of each text that is read, among those of the bucket, [count] int64.
        filled: For each place of the filled texts its token among those of the bucket, [count * length] int64; None
            where nothing had to be filled.
        real: The places that hold a token, [tokens] int64; None likewise.
        seen: The same as a mask, [count, 1, 1, length] bool; None likewise.
        context: Who sees whom.
    """

    tokens: slice
    count: int
    length: int
    read: Tensor
    filled: Tensor | None
    real: Tensor | None
    seen: Tensor | None
    context: Context
    _masks: dict[Any, Tensor | None] = field(default_factory=dict)

    def fill(self, part: Tensor) -> Tensor:
        """Of all tokens, [tokens, heads, channels], the bucket's: [count, length, heads, channels]."""
        own = part[self.tokens]
        if self.filled is not None:
            own = own.index_select(0, self.filled)
        return own.view(self.count, self.length, *part.shape[1:])

    def look(self, window: int | None, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
        """See `Context.look`."""
        mask, causal = self.context.look(self.length, self.length, window, self.read.device)
        return self._added(window, mask, dtype), causal

    def look_of_read(self, dtype: torch.dtype) -> Tensor | None:
        """What a token sees that sees all of its text."""
        return self._added("read", self.seen, dtype)

    def _added(self, key: Any, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """A mask in the form that is added to scores, which takes less time than to look where it is True."""
        if key not in self._masks:
            if mask is not None and mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
            self._masks[key] = None if mask is None else mask.to(dtype)
        return self._masks[key]


@dataclass
class Packed:
    """What the blocks of a pass over packed texts share.

    Attributes:
        context: Of the pass.
        shape: Of the batch with its padding, [batch, length].
        places: Where each packed token is in the flat batch, int64; None where the batch has no padding, and its order.
        lengths: Of the texts.
        buckets: The texts, by their lengths.
        reads: Which tokens are read.
        read: The packed token of each text that is read, [texts or more] int64; None when all are.
        rows: How many rows there are: the tokens, and zeros that may stand behind them.
    """

    context: Context
    shape: torch.Size
    places: Tensor | None
    lengths: list[int]
    buckets: list[Bucket]
    reads: Reads
    read: Tensor | None
    rows: int
    _rotations: dict[int, Rotation] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return sum(self.lengths)

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return len(self.lengths)

    @cached_property
    def starts(self) -> Tensor:
        """The first token of each text, and the number of all, [texts + 1] int32."""
        starts = [0, *accumulate(self.lengths)]
        return torch.tensor(starts, dtype=torch.int32, device=self.buckets[0].read.device)

    def rotation(self, rotary: Rotary) -> Rotation:
        """The rotation of the packed tokens, made once for all blocks that share a `Rotary`."""
        if id(rotary) not in self._rotations:
            assert self.positions is not None, "rotary positions need positions"
            self._rotations[id(rotary)] = rotary(self.positions)
        return self._rotations[id(rotary)]

    @cached_property
    def positions(self) -> Tensor | None:
        """Those of the pass, [1, tokens or more], if it has some."""
        positions = self.context.positions
        if positions is None:
            return None
        positions = positions.expand(self.shape).reshape(-1)
        return _filled(positions if self.places is None else positions[self.places], self.rows)[None]

    def unpack(self, tokens: Tensor) -> Tensor:
        """What came out, of all tokens or of those that are read, to [batch, length, width], zeros elsewhere."""
        places, tokens = self.places, tokens[: self.count if self.read is None else self.texts]
        if self.read is not None:
            read = self.read[: self.texts]
            places = read if places is None else places[read]
        if places is not None:
            tokens = tokens.new_zeros(self.shape.numel(), tokens.size(-1)).index_copy_(0, places, tokens)
        return tokens.view(*self.shape, -1)


def _usual(count: int) -> int:
    """The next number of rows that is usual: a multiple of 16, of 32 behind 64."""
    return count + -count % (32 if count > 64 else 16)


def _filled(rows: Tensor, count: int) -> Tensor:
    """Zeros behind rows, up to so many."""
    return F.pad(rows, (*(0, 0) * (rows.ndim - 1), 0, count - len(rows))) if count > len(rows) else rows


def pack(x: Tensor, context: Context, reads: Reads, *, filled: bool = False) -> tuple[Tensor, Packed]:
    """Takes the padding out of a batch.

    Args:
        x: [batch, length, width].
        context: Of the pass.
        reads: Which tokens are read.
        filled: Whether zeros stand behind the tokens, up to few different numbers of rows: for each other one oneDNN
            compiles its products anew, which takes several times as long as to multiply.

    Returns:
        The tokens, [tokens or more, width], shorter texts first; and what the blocks need.
    """
    shape, flat = x.shape[:2], x.reshape(-1, x.size(-1))
    present, span = context.present, getattr(_local, "span", None)
    if span is not None:
        places, lengths = _texts_of(span)
        flat = flat.index_select(0, places)
    elif present is None or bool(present.all()):
        lengths, places = [shape[1]] * shape[0], None
    else:
        counts = present.sum(1)
        order = counts.argsort(stable=True)
        rows, columns = present[order].nonzero(as_tuple=True)
        places = order[rows] * shape[1] + columns
        lengths = [length for length in counts[order].tolist() if length]
        flat = flat.index_select(0, places)
    buckets = list(_buckets(lengths, context, reads, x.device))
    read = None
    if reads != "all":
        ends = torch.tensor(lengths, dtype=torch.int64, device=x.device).cumsum(0)
        read = ends - 1 if reads == "last" else F.pad(ends[:-1], (1, 0))
    if filled:
        flat = _filled(flat, _usual(len(flat)))
        read = None if read is None else _filled(read, _usual(len(read)))
    return flat, Packed(context, shape, places, lengths, buckets, reads, read, len(flat))


def _texts_of(span: Tensor) -> tuple[Tensor, list[int]]:
    """Where the tokens of rows of several texts are, shorter texts first; and the lengths of these, ascending."""
    places = span.flatten().nonzero()[:, 0]
    numbers = span + (int(span.max()) + 1) * torch.arange(len(span), device=span.device)[:, None]
    texts = numbers.flatten()[places]
    counts = texts.bincount()
    return places[counts[texts].argsort(stable=True)], counts[counts > 0].sort().values.tolist()


def _buckets(lengths: list[int], context: Context, reads: Reads, device: torch.device) -> Iterator[Bucket]:
    start = 0
    for blocks, same in groupby(lengths, lambda length: -(-length // WIDTH)):
        own = list(same)
        width, sizes = blocks * WIDTH, torch.tensor(own, device=device)
        filled = real = seen = None
        columns = torch.arange(width, device=device)
        if min(own) == max(own) and (own[0] == width or len(own) == 1):
            width = own[0]
        else:
            here = columns < sizes[:, None]
            starts = sizes.cumsum(0) - sizes
            filled = (starts[:, None] + columns.minimum(sizes[:, None] - 1)).flatten()
            real = here.flatten().nonzero()[:, 0]
            seen = here[:, None, None]
        bias = None if context.bias is None else _of_width(context.bias, width)
        # Filling stands behind a text, where nobody looks who looks at no later token.
        mask = None if context.causal and bias is None else seen
        ends = sizes.cumsum(0)
        yield Bucket(
            slice(start, start + sum(own)),
            len(own),
            width,
            ends - 1 if reads == "last" else ends - sizes,
            filled,
            real,
            seen,
            Context(mask=mask, causal=context.causal, bias=bias),
        )
        start += sum(own)


def _of_width(bias: Tensor, width: int) -> Tensor:
    """The bias for texts that are shorter than the longest, or filled up to more."""
    more = max(0, width - bias.size(-1))
    return F.pad(bias, (0, more, 0, more))[..., :width, :width]
