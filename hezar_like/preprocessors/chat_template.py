"""From a conversation to the text a model reads, by the template that came with it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..errors import HezarLikeError, InputError, PreprocessorError, one_line
from .chat_budget import MOST_DEPTH, Budget, too_much

__all__ = ["MOST_TEMPLATE", "ChatText", "check_messages", "render"]

MOST_TEMPLATE = 200_000
"""Characters of a template; the longest published ones have a tenth."""
MOST_TEXT = 2**20
"""Characters of a rendered conversation."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""What systems call the thoughts before an answer; templates read the first two."""
TAG = "CONTINUE_FINAL_MESSAGE_TAG "
"""What marks the end of the message that is continued, as in transformers: some templates strip its space."""


class ChatText(str):
    """A rendered conversation, which holds all of its special tokens already."""

    __slots__ = ()


def render(
    template: str,
    messages: Any,
    *,
    tools: Any = None,
    documents: Any = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    variables: Mapping[str, Any],
) -> ChatText:
    """Renders a conversation.

    Args:
        template: A template in Jinja's language, from whomever.
        messages: See `check_messages`.
        tools: JSON schemas of functions, one mapping each.
        documents: What the answer may rest on, one mapping each.
        add_generation_prompt: Whether the text ends with what begins an answer.
        continue_final_message: Whether it ends within the last message, which the model then goes on with.
        variables: More values by name: strings, numbers, lists and mappings of them.

    Raises:
        InputError: When the conversation is none, or the template refuses it.
        PreprocessorError: When the template is broken, or does more than it may.
        MissingDependency: Without jinja2.
    """
    chat = check_messages(messages)
    if continue_final_message and add_generation_prompt:
        raise InputError("a message is either continued or answered. Give add_generation_prompt=False.")
    final = _tag_final(chat) if continue_final_message else ""
    values = {
        **{name: _plain(value, name) for name, value in variables.items()},
        "messages": chat,
        "tools": _mappings(tools, "tools"),
        "documents": _mappings(documents, "documents"),
        "add_generation_prompt": add_generation_prompt,
    }
    text = _run(_compiled(template), values)
    return ChatText(_until_tag(text, final) if continue_final_message else text)


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """A conversation as plain data.

    Args:
        messages: Mappings with "role" and "content"; a content is a text or a list of mappings, and may be left out
            where there are "tool_calls". Other keys are for the template; those that are None count as absent.

    Raises:
        InputError: With the number of the message that is wrong, counted from 0.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        shown = "is empty" if isinstance(messages, Sequence) and not messages else f"is a {type(messages).__name__}"
        raise InputError(f'the conversation {shown}; give a list of mappings with "role" and "content".')
    return [_message(message, number) for number, message in enumerate(messages)]


def _message(message: Any, number: int) -> dict[str, Any]:
    where = f"message {number} of the conversation"
    if not isinstance(message, Mapping):
        raise InputError(f'{where} is a {type(message).__name__}; give a mapping with "role" and "content".')
    own = {key: value for key, value in _plain(message, where).items() if value is not None}
    if not isinstance(own.get("role"), str):
        raise InputError(f'{where} has the role {own.get("role")!r:.100}; give a text such as "user" or "assistant".')
    content = own.get("content")
    blocks = isinstance(content, list) and all(isinstance(block, dict) for block in content)
    if not isinstance(content, str) and not blocks and (content is not None or not own.get("tool_calls")):
        raise InputError(f"{where} has the content {content!r:.100}; give a text, or a list of mappings.")
    thought = next((own[key] for key in REASONING if key in own), None)
    return own if thought is None else {"thinking": thought, **own, "reasoning_content": thought}


def _mappings(values: Any, name: str) -> list[dict[str, Any]] | None:
    if values is None:
        return None
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    if not isinstance(values, Sequence) or not all(isinstance(value, Mapping) for value in listed):
        raise InputError(f"{name} of the conversation must be a list of mappings, not {values!r:.100}.")
    return [_plain(value, name) for value in listed]


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Data without methods of its own, so that a template can do nothing with it but read."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > MOST_DEPTH:
        raise InputError(f"{where} has values nested deeper than {MOST_DEPTH} levels.")
    if isinstance(value, Mapping):
        return {_plain(key, where, depth + 1): _plain(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, where, depth + 1) for item in value]
        return items if isinstance(value, list) else tuple(items)
    for kind in (str, int, float):
        if isinstance(value, kind):  # of a class of its own, such as an enum's
            return getattr(kind, f"__{kind.__name__}__")(value)
    raise InputError(f"{where} holds a {type(value).__name__}; give texts, numbers, lists and mappings.")


# -- going on with a message ----------------------------------------------------------------------------------------


def _tag_final(chat: list[dict[str, Any]]) -> str:
    """Marks the end of the last message; returns its text."""
    content = chat[-1].get("content")
    if isinstance(content, str):
        chat[-1]["content"] = content + TAG
        return content
    block = next((block for block in reversed(content or []) if isinstance(block.get("text"), str)), None)
    if block is None:
        raise InputError("the last message of the conversation has no text to go on from.")
    text = str(block["text"])
    block["text"] = text + TAG
    return text


def _until_tag(text: str, final: str) -> str:
    mark = text.rfind(TAG.strip())
    if mark < 0 or final.strip() not in text:
        raise PreprocessorError("the chat template changes the last message, so that it cannot be continued.")
    return text[:mark] if text[mark : mark + len(TAG)] == TAG else text[:mark].rstrip()


# -- templates ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    from .chat_sandbox import environment

    if len(template) > MOST_TEMPLATE:
        raise PreprocessorError(f"the chat template has {len(template)} characters; the most is {MOST_TEMPLATE}.")
    made = environment()
    try:
        return made.from_string(template)
    except HezarLikeError:
        raise
    except Exception as error:  # Python refuses what nests too deeply in several ways
        line = getattr(error, "lineno", None)
        place = f" in line {line}" if line else ""
        raise PreprocessorError(
            f"the chat template cannot be read{place}: {_reason(error)}. Correct it, or give another one."
        ) from None


def _run(template: Any, values: Mapping[str, Any]) -> str:
    from .chat_sandbox import Refusal

    pieces, length = [], 0
    with Budget():
        try:
            for piece in template.generate(**values):
                length += len(piece)
                if length > MOST_TEXT:
                    raise too_much(f"writes more than {MOST_TEXT} characters")
                pieces.append(piece)
        except HezarLikeError:
            raise
        except Refusal as refusal:
            raise InputError(f"the conversation is refused by the chat template: {_reason(refusal)}") from None
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<template>"]
            place = f" in line {lines[-1]}" if lines else ""
            raise PreprocessorError(
                f"the chat template failed{place}: {_reason(error)}. Check that it takes such messages."
            ) from None
    return "".join(pieces)


def _reason(error: Exception) -> str:
    return one_line(error, most=500) or type(error).__name__
