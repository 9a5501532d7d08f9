"""Checks of the texts a tokenizer is given: a wrong one is named by its index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import InputError
from .encoded import TextInput

__all__ = ["check_inputs", "refuse_broken_text"]


def check_inputs(inputs: Any, *, words: bool = False) -> list[TextInput]:
    """Brings a batch into the form that the Rust library takes.

    Args:
        inputs: Texts and pairs of texts; with `words`, lists of words.
        words: Whether the texts are split into words.

    Raises:
        InputError: With the index of the first item that is something else.
    """
    if isinstance(inputs, str | bytes | dict) or not isinstance(inputs, Iterable):
        raise InputError(f"the inputs are {_show(inputs)}; give a list of texts.")
    batch = inputs if isinstance(inputs, list) else list(inputs)
    if not words and set(map(type, batch)) <= {str}:  # the fast way for nearly every batch
        return batch
    return [_check_item(item, index, words) for index, item in enumerate(batch)]


def _check_item(item: Any, index: int, words: bool) -> TextInput:
    if isinstance(item, list | tuple):
        wrong = next((part for part in item if not isinstance(part, str)), None)
        if wrong is not None or None in item:
            raise InputError(f"holds {_show(wrong)}; it must hold texts.", index)
        if words:
            return list(item)
        if len(item) == 2:
            return (item[0], item[1])
        raise InputError(
            f"is a list of {len(item)} texts; a pair has 2. Give is_split_into_words=True if these are words.", index
        )
    if words or not isinstance(item, str):
        expected = "a list of words" if words else "a text or a pair of texts"
        raise InputError(f"is {_show(item)}; it must be {expected}.", index)
    return item


def refuse_broken_text(inputs: Sequence[TextInput]) -> None:
    """Looks for text that is not Unicode, which Rust cannot take; called only after Rust has refused a batch.

    Raises:
        InputError: With the index of the first such item.
    """
    for index, item in enumerate(inputs):
        for text in [item] if isinstance(item, str) else item:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"has the lone surrogate {text[error.start]!r} at character {error.start}, which is not text. "
                    "Remove it with text.encode(errors='replace').decode().",
                    index,
                ) from None


def _show(value: Any) -> str:
    text = " ".join(repr(value).split())  # on one line, as tensors are not
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def as_batch(inputs: Any, text_pair: Any, words: bool) -> tuple[Any, bool]:
    """The inputs as a batch, and whether they were a single text."""
    if text_pair is not None:
        if isinstance(inputs, str) and isinstance(text_pair, str):
            return [(inputs, text_pair)], True
        first, second = list(inputs), list(text_pair)
        if isinstance(inputs, str) or isinstance(text_pair, str) or len(first) != len(second):
            raise InputError(f"text_pair must match the inputs: {len(first)} texts and {len(second)} were given.")
        return list(zip(first, second, strict=True)), False
    if isinstance(inputs, str):
        return [inputs], True
    if words and isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], str):
        return [list(inputs)], True
    return inputs, False
