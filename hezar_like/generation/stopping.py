"""Texts that end what is written, wherever its tokens part them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["StopTexts", "cut"]

Decode = Callable[[list[list[int]]], list[str]]


def cut(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of these texts in it."""
    return text[: min((place for place in map(text.find, stop) if place >= 0), default=len(text))]


class StopTexts:
    """Finds out which rows have come to a text that ends them.

    Args:
        texts: The texts.
        decode: From tokens to texts.

    Attributes:
        reach: How many of the last tokens may hold one.
    """

    def __init__(self, texts: Sequence[str], decode: Decode) -> None:
        self._texts, self._decode = texts, decode
        # A character may take four tokens. A few more than that, for what decoders change at the start of a text.
        self.reach = 4 * max(map(len, texts)) + 8

    def __call__(self, rows: list[list[int]]) -> Tensor:
        """Whether each row of new tokens holds one, [rows] bool; rows were asked after each token before."""
        texts = self._decode([row[-self.reach :] for row in rows])
        return torch.tensor([any(stop in text for stop in self._texts) for text in texts], dtype=torch.bool)
