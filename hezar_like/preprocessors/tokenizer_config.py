"""Settings shared by all tokenizers, and how Hezar's older files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ..configs import PreprocessorConfig
from ..fields import Count, Size, TokenId, Vocabulary

__all__ = ["TokenizerConfig"]

RENAMED = {"truncation_direction": "truncation_side", "padding_direction": "padding_side"}
# Older files carry these; padding and truncation are options of a call, the rest is in tokenizer.json.
DROPPED = frozenset({
    "padding", "truncation", "padding_strategy", "truncation_strategy", "pretrained_path", "pad_token_id",
    "special_tokens", "model",
})  # fmt: skip


@dataclass
class TokenizerConfig(PreprocessorConfig):
    """Settings of a tokenizer; the vocabulary itself is in tokenizer.json.

    Attributes:
        max_length: Where `truncation=True` cuts when a call names no length, in tokens; None for no limit.
        truncation_side: The end of a text that truncation drops.
        padding_side: The end to which padding goes.
        stride: Tokens that windows of an overflowing text share when a call does not say.
        pad_to_multiple_of: Padded lengths are rounded up to a multiple of this; 0 for any length.
        pad_token_type_id: Token type of padding.
        bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token: Special tokens by role.
        additional_special_tokens: Special tokens without a role.
        vocab_size: How many tokens training makes; in a saved file, how many there are.
        min_frequency: How often a pair must occur to be merged in training.
        limit_alphabet: How many characters training keeps.
        initial_alphabet: Characters that training keeps in any case.
        show_progress: Whether training shows a bar on a terminal.
        chat_template: How a conversation is written as one text, in Jinja's language; in a saved file, the name of the
            file that holds it.
        additional_chat_templates: More of them by name, such as "tool_use".
    """

    name = "tokenizer"
    max_length: Size | None = None
    truncation_side: Literal["left", "right"] = "right"
    padding_side: Literal["left", "right"] = "right"
    stride: Count = 0
    pad_to_multiple_of: Count = 0
    pad_token_type_id: TokenId = 0
    bos_token: str | None = None
    eos_token: str | None = None
    unk_token: str | None = None
    sep_token: str | None = None
    pad_token: str | None = None
    cls_token: str | None = None
    mask_token: str | None = None
    additional_special_tokens: list[str] | None = None
    vocab_size: Vocabulary = 30000
    min_frequency: Count = 2
    limit_alphabet: Count = 1000
    initial_alphabet: list[str] = field(default_factory=list)
    show_progress: bool = False
    chat_template: str | None = None
    additional_chat_templates: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_saved(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Builds the config of a file; what Hezar wrote as "deprecated" counts as unset, and its old names are read."""
        current = {RENAMED.get(key, key): value for key, value in values.items() if key not in DROPPED}
        return super().from_saved({key: v for key, v in current.items() if v != "deprecated"}, **overrides)
