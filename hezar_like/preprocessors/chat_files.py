"""The chat templates of a tokenizer: which there are, and where they are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, PreprocessorError, TokenizerError, did_you_mean
from .chat_template import MOST_TEMPLATE

if TYPE_CHECKING:
    from .tokenizer_config import TokenizerConfig

__all__ = [
    "choose", "read_templates", "template_files", "template_names", "templates_for_transformers",
    "templates_from_transformers",
]  # fmt: skip

DEFAULT_FILE = "chat_template.jinja"
OTHER_FILES = "additional_chat_templates/{}.jinja"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
KNOWN = ("rag", "tool_use")
"""Templates beside the default that are looked for by name, because listing a repository costs a request."""


def choose(config: TokenizerConfig, name: str | None, *, with_tools: bool) -> str:
    """The template of a name; else, as in transformers, "tool_use" where there are tools, and the default.

    Raises:
        PreprocessorError: When the tokenizer has no template.
        OptionError: When it has none of this name.
    """
    named = _named(config)
    if not named:
        raise PreprocessorError(
            "this tokenizer has no chat template: its model was not made for conversations, or its template is kept "
            "elsewhere. Give texts instead, or set tokenizer.config.chat_template."
        )
    wanted = name or ("tool_use" if with_tools and "tool_use" in named else "default")
    if wanted not in named:
        raise OptionError(f"this tokenizer has no chat template {wanted!r:.100}.{did_you_mean(wanted, named)}")
    return str(named[wanted])


def template_files(config: TokenizerConfig) -> dict[str, str]:
    """The templates by the names of the files in which they are kept, as transformers has them.

    Raises:
        PreprocessorError: When a name makes no file.
    """
    for name in config.additional_chat_templates:
        if not NAME.fullmatch(name) or name == "default":
            raise PreprocessorError(f"the chat template {name!r:.100} needs another name: letters, digits, _ and -.")
    default = {} if config.chat_template is None else {DEFAULT_FILE: config.chat_template}
    return default | {OTHER_FILES.format(name): text for name, text in config.additional_chat_templates.items()}


def template_names(config: TokenizerConfig) -> dict[str, Any]:
    """The fields of the templates as they are saved: each is the name of its file."""
    others = {name: OTHER_FILES.format(name) for name in config.additional_chat_templates}
    default = None if config.chat_template is None else DEFAULT_FILE
    return {"chat_template": default, "additional_chat_templates": others}


def read_templates(config: TokenizerConfig, get: Callable[[str], Path]) -> None:
    """Puts the templates in place of the names of their files.

    Args:
        config: Of a tokenizer that is read; a template may also stand in it itself.
        get: Gives the path of a file.
    """
    if config.chat_template == DEFAULT_FILE:
        config.chat_template = _read(get(DEFAULT_FILE))
    for name, text in config.additional_chat_templates.items():
        if text == OTHER_FILES.format(name) and NAME.fullmatch(name):
            config.additional_chat_templates[name] = _read(get(text))


def _read(path: Path) -> str:
    """The template in a file, letter for letter.

    Raises:
        PreprocessorError: When it is too long, or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(4 * MOST_TEMPLATE + 1)
        if len(data) <= 4 * MOST_TEMPLATE:
            return data.decode()
        reason = f"it has more than {4 * MOST_TEMPLATE} bytes"
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error)
    raise PreprocessorError(f"{str(path)!r} is no chat template: {reason}. Download it again.")


def templates_from_transformers(find: Callable[[str], Path | None], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config's fields, by the files of a checkpoint of transformers.

    Args:
        find: Gives the path of a file of the checkpoint, or None.
        settings: What is in tokenizer_config.json, whose templates count only where there is no file of them.

    Raises:
        PreprocessorError: When a file cannot be read.
        TokenizerError: When the setting is no template.
    """
    named: dict[str, str] = {}
    default, beside = find(DEFAULT_FILE), find(DEFAULT_FILE) or find("tokenizer_config.json")
    others = set() if default is None else {*KNOWN}
    if beside is not None:
        others |= {file.stem for file in (beside.parent / OTHER_FILES).parent.glob("*.jinja")}
    found = {"default": default} | {name: find(OTHER_FILES.format(name)) for name in sorted(others)}
    if any(found.values()):
        named = {name: _read(file) for name, file in found.items() if file is not None}
    elif (given := settings.get("chat_template")) is not None:
        listed = given if isinstance(given, list) else [{"name": "default", "template": given}]
        for entry in listed:
            if not isinstance(entry, Mapping) or not all(isinstance(entry.get(k), str) for k in ("name", "template")):
                raise TokenizerError(
                    f"the chat template {entry!r:.200} is neither a text nor a list of them with their names. "
                    "Correct tokenizer_config.json."
                )
            named[entry["name"]] = entry["template"]
    return {"chat_template": named.pop("default", None), "additional_chat_templates": named}


def templates_for_transformers(config: TokenizerConfig) -> dict[str, Any]:
    """The setting of tokenizer_config.json for the templates; none without them."""
    named = _named(config)
    alone = named.keys() == {"default"}
    listed = [{"name": name, "template": text} for name, text in named.items()]
    return {"chat_template": named["default"] if alone else listed} if named else {}


def _named(config: TokenizerConfig) -> dict[str, str]:
    default = {} if config.chat_template is None else {"default": config.chat_template}
    return default | config.additional_chat_templates
