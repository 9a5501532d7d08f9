"""Post-processors: the special tokens around a text, and between the texts of a pair."""

from __future__ import annotations

from typing import Any, TypeAlias

from tokenizers import processors

__all__ = ["Named", "roberta_template", "template"]

Named: TypeAlias = tuple[str, int]
"""A token and its id."""


def template(first: Named | None, last: Named | None, *, second_type: int = 0) -> Any:
    """`first A last`, and for pairs `first A last B last`.

    Args:
        first: The token before the first text, if there is one.
        last: The token after each text, if there is one.
        second_type: The token type of the second text and of the token after it.
    """
    before, after = [first[0]] if first else [], [last[0]] if last else []
    second = [f"{piece}:{second_type}" for piece in ("$B", *after)]
    return processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *second],
        special_tokens=[named for named in (first, last) if named],
    )


def roberta_template(first: Named, last: Named, *, add_prefix_space: bool = False) -> Any:
    """`first A last`, and for pairs `first A last last B last`; offsets leave out the space inside a token."""
    return processors.RobertaProcessing(last, first, True, add_prefix_space)
