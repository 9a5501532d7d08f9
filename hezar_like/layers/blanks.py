"""Blanks in texts that are filled by writing after the text (GLM; Du et al., 2021): https://arxiv.org/abs/2103.10360."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Blanks:
    """The tokens of blank filling: a text has blanks, and behind it comes a piece for each of them.

    Attributes:
        tokens: The tokens that are blanks, such as [MASK].
        start: The token every piece starts with.
        end: The token that is written where a piece ends.
        suffix: The blank at the end of a text that is to be continued.
        closing: The token that ends a text, but not one that ends with `suffix`; it may also end a piece.
    """

    tokens: tuple[int, ...]
    start: int
    end: int
    suffix: int
    closing: int | None = None

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a piece."""
        return (self.end,) if self.closing is None else (self.end, self.closing)

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Where the blanks of texts are.

        Args:
            tokens: [batch, length] int64; blanks behind the first start token do not count.

        Returns:
            The index of each blank in its text, in order, [batch, length] int64, where there is none the length; and
            their number, [batch] int64.
        """
        blank = torch.isin(tokens, torch.tensor(self.tokens, device=tokens.device)) & ~self._in_piece(tokens)
        length = tokens.size(1)
        indices = torch.arange(length, device=tokens.device).expand_as(tokens)
        return indices.masked_fill(~blank, length).sort(1).values, blank.sum(1)

    def positions(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Where the tokens of texts with pieces stand: the first piece fills the first blank, and so on.

        Pieces without a blank of their own are at the last one; without any, positions just count on.

        Args:
            tokens: [batch, length] int64.

        Returns:
            [batch, 2, length] int64: the place in the text, for all of a piece that of its blank; and the place in the
            piece, from 1 on, 0 in the text. And how many tokens come before the first piece, [batch] int64.
        """
        starts = tokens == self.start
        in_piece = self._in_piece(tokens)
        indices = torch.arange(tokens.size(1), device=tokens.device).expand_as(tokens)
        first = indices.masked_fill(~starts, 0).cummax(1).values
        blanks, count = self.places(tokens)
        number = (starts.cumsum(1) - 1).minimum(count[:, None] - 1).clamp(min=0)
        in_text = torch.where(in_piece & (count > 0)[:, None], blanks.gather(1, number), indices)
        return torch.stack((in_text, (indices - first + 1) * in_piece), 1), (~in_piece).sum(1)

    def unread(self, tokens: Tensor) -> Tensor:
        """Which tokens a tokenizer put behind the blank at the end of a text, though nothing belongs there.

        Args:
            tokens: [batch, length] int64.

        Returns:
            Bool, the same shape.
        """
        behind = F.pad(tokens[:, :-1] == self.suffix, (1, 0), value=False)
        return behind & (tokens == (self.end if self.closing is None else self.closing))

    def _in_piece(self, tokens: Tensor) -> Tensor:
        return (tokens == self.start).cumsum(1) > 0


def piece_positions(places: Tensor, first: int, length: int) -> Tensor:
    """Where tokens of one piece stand, [batch, 2, length] int64; see `Blanks.positions`.

    Args:
        places: The index of the piece's blank, [batch] int64.
        first: The place in the piece of the first of the tokens, from 1 on.
        length: How many tokens.
    """
    inside = torch.arange(first, first + length, device=places.device).expand(len(places), -1)
    return torch.stack((places[:, None].expand_as(inside), inside), 1)


def prefix_look(prefix: Tensor, queries: int, past: int = 0) -> Tensor:
    """Who sees whom where a text sees itself in both directions, and what comes behind it all before itself.

    Args:
        prefix: How many of the new tokens are the text, [batch] int64.
        queries: Number of new tokens.
        past: Number of earlier ones, which all see.

    Returns:
        Bool, [batch, 1, queries, past + queries]; True = look.
    """
    indices = torch.arange(queries, device=prefix.device)
    look = (indices <= indices[:, None]) | (indices < prefix[:, None, None])
    return F.pad(look, (past, 0), value=True)[:, None]
