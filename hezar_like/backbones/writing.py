"""How backbones go on writing: what a search for a text needs of one, so that it need not know which it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

__all__ = ["Piece", "Writer"]


class Piece(NamedTuple):
    """A stretch of text to write, in all rows of a batch at once.

    Attributes:
        tokens: What it starts with, [batch, length] int64.
        idle: Rows that have no such piece, [batch] bool; None: all have one.
    """

    tokens: Tensor
    idle: Tensor | None = None


class Writer(ABC):
    """Goes on after what a backbone has read; `BackboneBase.writer` makes one.

    A search takes one piece after the other, gives `step` what the piece starts with, then again and again the tokens
    it chose: one for each row, in rows that are done an end token.

    Attributes:
        room: The most tokens of a piece, its start not counted; None for no limit.
        ends: Tokens that end a piece; where there are none here, those that the model's config names.
        unwritten: Tokens that are never chosen.
    """

    room: int | None = None
    ends: tuple[int, ...] = ()
    unwritten: tuple[int, ...] = ()

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """The pieces to write, each to be finished before the next is asked for."""

    @abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Reads new tokens, [batch, length] int64.

        Returns:
            Their hidden states, [batch, length, width]; the last ones say what comes next.
        """

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Goes on with these rows, in this order; a row may be kept several times.

        Args:
            rows: [new batch] int64.
        """
