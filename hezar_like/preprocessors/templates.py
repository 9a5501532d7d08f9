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
    (before, left), (after, right) = _piece(first, "first"), _piece(last, "last")
    second = [f"{piece}:{second_type}" for piece in ("$B", *after)]
    return processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *second],
        special_tokens=[*left, *right],
    )


def _piece(named: Named | None, name: str) -> tuple[list[str], list[Any]]:
    """What stands for a token in a template, and what the template is told of it; both empty without one.

    That is the token itself, as other systems write it, unless it would mean something else there.
    """
    if named is None:
        return [], []
    token, number = named
    if ":" in token or token.startswith("$"):
        return [name], [{"id": name, "ids": [number], "tokens": [token]}]
    return [token], [named]


def roberta_template(first: Named, last: Named, *, add_prefix_space: bool = False) -> Any:
    """`first A last`, and for pairs `first A last last B last`; offsets leave out the space inside a token."""
    return processors.RobertaProcessing(last, first, True, add_prefix_space)
