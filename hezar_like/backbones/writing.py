"""How backbones go on writing: what a search for a text needs of one, so that it need not know which it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from torch import Tensor

from ..errors import OptionError
from ..layers import Cache

__all__ = ["CachedWriter", "Piece", "Writer"]


class Piece(NamedTuple):
    """A stretch of text to write, in all rows of a batch at once.

    Attributes:
        tokens: What it starts with, [batch, length] int64.
        idle: Rows that have no such piece, [batch] bool; None: all have one.
        history: What stands before its first new token, `tokens` included, [batch, any] int64, -1 for padding; None:
            just `tokens`.
        limits: The most new tokens of each row, [batch] int64; None: as many as there is room for.
    """

    tokens: Tensor
    idle: Tensor | None = None
    history: Tensor | None = None
    limits: Tensor | None = None


class Writer(ABC):
    """Goes on after what a backbone has read; `BackboneBase.writer` makes one.

    A search takes one piece after the other, gives `step` what the piece starts with, then again and again the tokens
    it chose: one for each row, in rows that are done an end token. When it is done with a piece and there may be more,
    it has one row for each input again, as at the beginning, and has given `step` all it chose but the last token.

    Attributes:
        room: The most tokens of a piece, its start not counted; None for no limit.
        ends: Tokens that end a piece; where there are none here, those that the model's config names.
        unwritten: Tokens that are never chosen.
        goes_on: Whether there may be several pieces, of which later ones see earlier ones.
    """

    room: int | None = None
    ends: tuple[int, ...] = ()
    unwritten: tuple[int, ...] = ()
    goes_on: ClassVar[bool] = False

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

    @abstractmethod
    def expand(self, times: int) -> None:
        """Goes on with every row so many times, one beside the other; what was read is the same for all of them."""

    def reorder(self, rows: Tensor, last: int) -> None:
        """Goes on with other rows of the same inputs, which differ from those in their places in the last tokens only.

        Args:
            rows: For each row the one that takes its place, [batch] int64.
            last: In how many tokens at most they differ.
        """
        self.select(rows)

    def forget(self, count: int) -> None:
        """Takes back the last tokens of all rows.

        Raises:
            OptionError: When this writer cannot.
        """
        raise OptionError(f"{type(self).__name__} cannot take tokens back; leave out prompt_lookup_num_tokens.")


class CachedWriter(Writer):
    """Base of writers whose cache holds what they read and wrote.

    Args:
        cache: Where it is kept.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def select(self, rows: Tensor) -> None:
        self._cache.select(rows)

    def expand(self, times: int) -> None:
        self._cache.expand(times)

    def reorder(self, rows: Tensor, last: int) -> None:
        self._cache.reorder(rows, last)

    def forget(self, count: int) -> None:
        self._cache.forget(count)
