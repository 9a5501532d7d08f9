"""Texts with blanks, for backbones that write what fills them behind the text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from ..errors import InputError, OptionError, PreprocessorError
from ..layers.blanks import Blanks
from ..preprocessors.chat_template import ChatText
from .text import TextBatch

if TYPE_CHECKING:
    from ..preprocessors.encoded import Encoded
    from ..preprocessors.tokenizer import Tokenizer

__all__ = ["AnsweredBatch", "FilledText", "answered", "encode_with_blanks", "fill", "is_continued"]

Text = str | tuple[str, ...]


class FilledText(TypedDict):
    """A text with its blanks filled.

    Attributes:
        text: The text.
        blanks: What was written for each blank.
    """

    text: str
    blanks: list[str]


class AnsweredBatch(TextBatch):
    """Texts that are read causally, as FlagAI's models for titles and poems do."""

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Those of a `TextBatch`, and `sep`: nothing is seen both ways."""
        tensors = super().tensors
        return tensors | {"sep": torch.zeros(len(tensors["token_ids"]), dtype=torch.int64)}


def answered(tokenizer: Tokenizer, texts: Sequence[Any], blanks: Blanks | None) -> list[ChatText]:
    """Texts as FlagAI's `encode_plus` writes those that are to be answered: `[sop] text [sep]`.

    Raises:
        OptionError: When the model has no start token, or the tokenizer no separator.
        InputError: For an input that is no text.
    """
    start = None if blanks is None else tokenizer.id_to_token(blanks.start)
    if start is None or tokenizer.sep_token is None:
        raise OptionError("layout='seq2seq' is for blank fillers with a start token and a separator. Leave it out.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or isinstance(text, ChatText):
            raise InputError(f"is a {type(text).__name__}; with layout='seq2seq' it must be a text.", index)
    return [ChatText(f"{start}{text}{tokenizer.sep_token}") for text in texts]


def encode_with_blanks(tokenizer: Tokenizer, texts: Sequence[Text], blanks: Blanks) -> list[Encoded]:
    """Tokenizes texts or pairs; those without a blank get one at the end, as they are to be continued.

    Raises:
        PreprocessorError: When the tokenizer has no such blank.
    """
    rows = tokenizer.encode_texts(texts)
    lacking = [index for index, row in enumerate(rows) if not set(blanks.tokens) & set(row.ids)]
    if not lacking:
        return rows
    blank = tokenizer.id_to_token(blanks.suffix)
    if blank is None:
        raise PreprocessorError(f"the tokenizer has no token {blanks.suffix}, which should be a blank. Use another.")
    chosen = [texts[index] for index in lacking]
    longer = [f"{text} {blank}" if isinstance(text, str) else (*text[:-1], f"{text[-1]} {blank}") for text in chosen]
    for index, row in zip(lacking, tokenizer.encode_texts(longer), strict=True):
        rows[index] = row
    return rows


def is_continued(row: Encoded, blanks: Blanks) -> bool:
    """Whether a text ends with the blank for all that comes after it."""
    content = row.content
    return bool(content) and row.ids[content[-1]] == blanks.suffix


def fill(tokenizer: Tokenizer, text: Sequence[int], written: Sequence[int], blanks: Blanks) -> FilledText:
    """Puts what was written where it belongs.

    Args:
        tokenizer: Of the model.
        text: The tokens that were read.
        written: The pieces, each from a start token to an end token or the next start.
        blanks: What these are.
    """
    pieces: list[list[int]] = []
    writing = False
    for token in written:
        if token == blanks.start:
            pieces.append([])
        writing = token not in blanks.ends and (writing or token == blanks.start)
        if writing and token != blanks.start:
            pieces[-1].append(token)
    filled, rest = [], iter(pieces)
    for token in text:
        filled += next(rest) if token in blanks.tokens else [token]
    return FilledText(text=tokenizer.decode([filled])[0], blanks=tokenizer.decode(pieces))
