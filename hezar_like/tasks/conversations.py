"""Conversations as inputs: which inputs are one, and how they become texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError, did_you_mean
from ..preprocessors.chat_template import ChatText

if TYPE_CHECKING:
    from ..preprocessors.tokenizer import Tokenizer

__all__ = ["as_texts", "by_kind", "is_conversation"]

KEYS = ("messages", "tools", "documents", "template", "variables")
RESERVED = {*KEYS, "add_generation_prompt", "continue_final_message"}


def is_conversation(item: Any) -> bool:
    """Whether this is a list of messages: mappings with a role or a content, unlike those with a text."""
    first = item[0] if isinstance(item, list | tuple) and item else None
    return isinstance(first, Mapping) and not {"role", "content"}.isdisjoint(first) and "text" not in first


def as_texts(tokenizer: Tokenizer, inputs: Iterable[Any]) -> list[Any]:
    """Writes the conversations among inputs as texts, which end with what begins an answer; the others stay.

    Args:
        tokenizer: Has the chat template.
        inputs: Of a task.

    Raises:
        InputError: When a conversation is none, or the template refuses it; names its index.
        PreprocessorError: When there is no template, or it fails.
    """
    return [item if isinstance(item, str) else _as_text(tokenizer, item, index) for index, item in enumerate(inputs)]


def by_kind(
    texts: list[Any], others: Callable[[list[Any]], list[Any]], chats: Callable[[list[Any]], list[Any]]
) -> list[Any]:
    """Does one thing with conversations that are texts already, and another with all other inputs.

    Args:
        texts: Of `as_texts`.
        others: For the other inputs; gives one result for each.
        chats: For the conversations.

    Raises:
        InputError: Of the functions, with the index among all.
    """
    results: list[Any] = [None] * len(texts)
    for wanted, run in ((False, others), (True, chats)):
        places = [place for place, text in enumerate(texts) if isinstance(text, ChatText) is wanted]
        if not places:
            continue
        try:
            found = run([texts[place] for place in places])
        except InputError as error:
            error.index = None if error.index is None else places[error.index]
            raise
        for place, result in zip(places, found, strict=True):
            results[place] = result
    return results


def _as_text(tokenizer: Tokenizer, item: Any, index: int) -> Any:
    empty = isinstance(item, list | tuple) and not item
    named = isinstance(item, Mapping) and "messages" in item
    if not (empty or named or is_conversation(item)):
        return item
    given: Mapping[str, Any] = item if named else {"messages": item}
    for key in given.keys() - set(KEYS):
        raise InputError(f"is a conversation with {key!r:.100}, which it cannot have.{did_you_mean(key, KEYS)}", index)
    options = {key: given[key] for key in KEYS[1:4] if given.get(key) is not None}
    variables = given.get("variables") or {}
    if not isinstance(variables, Mapping) or not isinstance(options.get("template", ""), str):
        wrong = "variables that are no mapping" if not isinstance(variables, Mapping) else "a template that is no name"
        raise InputError(f"has {wrong}.", index)
    if reserved := sorted(map(str, RESERVED.intersection(variables))):
        raise InputError(f"sets {reserved[0]!r} among the variables, where it does not belong.", index)
    messages: Sequence[Mapping[str, Any]] = given["messages"]
    try:
        return ChatText(tokenizer.apply_chat_template(messages, **options, **variables))
    except InputError as error:
        raise InputError(f"cannot be used: {error.args[0]}", index) from None
