"""Texts as they are written, in whole characters."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .stopping import Decode

__all__ = ["TextStream"]

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers make of a character whose last bytes are still to come."""
LONGEST_CHARACTER = 4
"""Of so many bytes, and so of so many tokens, a character is made at most."""
CONTEXT = 8
"""With how many tokens before it a token is decoded: a space before it, above all, depends on them."""


class TextStream:
    """One text on its way.

    Args:
        decode: From tokens to texts.
        read: The tokens before it.
        ends: Tokens that end a text, and are no part of it.
        stop: Texts that end it.

    Attributes:
        text: What was given out so far.
    """

    def __init__(self, decode: Decode, read: Sequence[int], ends: Collection[int], stop: Sequence[str]) -> None:
        self._decode, self._ends, self._stop = decode, frozenset(ends), list(stop)
        self._tokens = list(read[-CONTEXT:])
        self._shown = len(self._tokens)  # up to here their text was given out, or held back
        self._held = ""
        self._over = False

    def add(self, tokens: Sequence[int]) -> str:
        """What new tokens add to the text: whole characters, which no text that ends it can still take back."""
        if self._over:
            return ""
        new = [token for token in tokens if token not in self._ends]
        self._tokens += new
        text = self._held + self._new_text(last=len(new) < len(tokens))
        places = [place for place in map(text.find, self._stop) if place >= 0]
        if places:
            self._over = True
            return text[: min(places)]
        kept = 0 if len(new) < len(tokens) else max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def close(self) -> str:
        """What was held back, when nothing more comes."""
        rest = "" if self._over else self._held + self._new_text(last=True)
        self._over = True
        return rest

    def _new_text(self, *, last: bool) -> str:
        """The text of the tokens that were not shown; none before a character is whole, but at the last."""
        if self._shown == len(self._tokens):
            return ""
        before, now = self._decode([self._tokens[: self._shown], self._tokens])
        if now.endswith(UNFINISHED) and not last and len(self._tokens) - self._shown < LONGEST_CHARACTER:
            return ""
        self._tokens = self._tokens[-CONTEXT:]
        self._shown = len(self._tokens)
        return now[len(before) :]


def _overlap(text: str, stop: str) -> int:
    """How many of a text's last characters a text that ends it begins with."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)
