"""How a decoder that reads on both sides of a hole writes into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..layers import Cache
from .decoder import Decoder
from .writing import CachedWriter, Piece

__all__ = ["HoleWriter"]


class HoleWriter(CachedWriter):
    """Writes into the hole between what is given on both sides, or behind it where there is no hole.

    Args:
        backbone: It reads and writes; its `forward` takes `context` and `span`.
        inputs: Of its `forward`, by name, with `token_ids` and `context`. What is no context is the hole, whatever
            tokens stand there: as many may be written.

    Raises:
        OptionError: When a row has no context before its hole, or several holes.
    """

    def __init__(self, backbone: Decoder, inputs: Mapping[str, Any]) -> None:
        super().__init__(Cache(len(backbone.stack.blocks)))
        tokens = inputs["token_ids"]
        rows, width = tokens.shape
        mask = backbone.attention_mask(tokens, inputs.get("attention_mask"), inputs.get("length"))
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
        given = inputs["context"].bool().expand(rows, -1) & real
        places = torch.arange(width, device=tokens.device)
        hole = real & ~given
        size, ends = hole.sum(1), (real * (places + 1)).amax(1)
        begin = torch.where(size > 0, hole.long().argmax(1), ends)
        if bool((begin == real.long().argmax(1)).any()) or bool((hole != _between(places, begin, begin + size)).any()):
            raise OptionError("context must be True before the one hole, or end, of each row that is to be written.")
        self._backbone, self._start, self._given, self._begin = backbone, tokens, given, begin
        self._limits = size if bool((size > 0).all()) else None
        span = inputs.get("span")
        self._span = None if span is None else span.expand(rows, -1)
        self._others = {"head_mask": inputs.get("head_mask")}

    def pieces(self) -> Iterator[Piece]:
        history = self._start.masked_fill(~self._given, -1)
        yield Piece(self._start, history=history, limits=self._limits)

    def step(self, tokens: Tensor) -> Tensor:
        past, width = self._cache.length, self._start.size(1)
        new = self._begin[:, None] + torch.arange(past + tokens.size(1) - width, device=tokens.device)
        rows = torch.arange(len(tokens), device=tokens.device)
        places = torch.cat((torch.arange(width, device=tokens.device).expand(len(tokens), -1), new), 1)
        unwritten = torch.zeros_like(new, dtype=torch.bool)
        span = self._span
        if span is not None:
            span = torch.cat((span, span[rows, self._begin - 1][:, None].expand_as(new)), 1)
        output = self._backbone(
            tokens,
            torch.cat((self._given, ~unwritten), 1),
            places,
            context=torch.cat((self._given, unwritten), 1),
            span=span,
            past_key_values=self._cache,
            **self._others,
        )
        return output.last_hidden_state if past else output.last_hidden_state[rows, self._begin - 1][:, None]

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self._start, self._given, self._begin = self._start[rows], self._given[rows], self._begin[rows]
        self._span = None if self._span is None else self._span[rows]

    def expand(self, times: int) -> None:
        own = torch.arange(len(self._start), device=self._start.device).repeat_interleave(times)
        super().expand(times)
        self._start, self._given, self._begin = self._start[own], self._given[own], self._begin[own]
        self._span = None if self._span is None else self._span[own]


def _between(places: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Which places [length] lie from one index up to another, [batch] each: [batch, length] bool."""
    return (places >= begin[:, None]) & (places < end[:, None])
