"""How Whisper's tokens make words, by OpenAI's rules; and what is written in them that nobody speaks."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

__all__ = ["MARKS", "NOTES", "WITHOUT_SPACES", "join_to_words", "split_to_characters"]

WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages that put no spaces between words."""
MARKS = [
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))", "[[", "]]", "{{", "}}"),
    *("♪♪", "♪♪♪"),
]
"""What stands for something that is not speech, where it is one token."""
NOTES = list("♩♪♫♬♭♮♯")
"""The same in the first of several tokens: the bytes with which they begin are those of other pictures."""
BROKEN = "\ufffd"


def split_to_characters(ids: Sequence[int], spell: Callable[[Sequence[int]], str]) -> tuple[list[str], list[list[int]]]:
    """Cuts a text wherever its characters are complete; a broken one counts, where it is so in the whole text too.

    Args:
        ids: The tokens of the text.
        spell: Gives the text of tokens.

    Returns:
        The pieces, and the tokens of each.
    """
    whole, place = spell(ids), 0
    pieces: list[str] = []
    rows: list[list[int]] = []
    pending: list[int] = []
    for token_id in ids:
        pending.append(token_id)
        text = spell(pending)
        broken = text.find(BROKEN)
        if broken < 0 or whole[place + broken : place + broken + 1] == BROKEN:
            pieces.append(text)
            rows.append(pending)
            place, pending = place + len(text), []
    if pending:  # the text ends within a character
        pieces.append(spell(pending))
        rows.append(pending)
    return pieces, rows


def join_to_words(
    pieces: Sequence[str], rows: Sequence[list[int]], first_special_id: int
) -> tuple[list[str], list[list[int]]]:
    """Joins pieces of text to words, which begin with a space; punctuation and special tokens stay alone."""
    words: list[str] = []
    joined: list[list[int]] = []
    for piece, row in zip(pieces, rows, strict=True):
        alone = row[0] >= first_special_id or piece.strip() in string.punctuation
        if alone or piece.startswith(" ") or not words:
            words.append(piece)
            joined.append(list(row))
        else:
            words[-1] += piece
            joined[-1] += row
    return words, joined
