"""The tokenizers that use jieba: of CPM-1 as published, of ModelCenter's CPM-1 and CPM-2, and of T5-Pegasus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..errors import TokenizerError
from ..fields import Size
from ..registry import register_preprocessor
from .jieba_tokenizer import JiebaConfig, JiebaTokenizer, Pieces
from .vocabulary import ROLES

__all__ = [
    "JiebaLongestMatchConfig",
    "JiebaLongestMatchTokenizer",
    "JiebaUnigramConfig",
    "JiebaUnigramTokenizer",
    "JiebaWordPieceConfig",
    "JiebaWordPieceTokenizer",
]

# Full-width forms and their counterparts. The quotes in corners become quotes that are not those of ASCII.
HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5E)}
HALF_WIDTH |= str.maketrans("\u3000。、「」『』〔〕〜", " ｡､｢｣‘’[]~")


@dataclass
class JiebaUnigramConfig(JiebaConfig):
    """Settings of CPM-1's tokenizer.

    Attributes:
        joiner: What stands between words: a space as published, or nothing as in FlagAI, which gives other ids.
        space_token: What stands for a space of the text.
        line_token: What stands for a newline of the text.
        eod_token: End of a document.
        keeps_sentencepiece: Whether a `.model` file is kept beside tokenizer.json, for systems that read no other.
    """

    name = "jieba_unigram_tokenizer"
    bos_token: str | None = "<s>"
    eos_token: str | None = "</s>"
    unk_token: str | None = "<unk>"
    sep_token: str | None = "<sep>"
    pad_token: str | None = "<pad>"
    mask_token: str | None = "<mask>"
    joiner: Literal[" ", ""] = " "
    space_token: str = "▂"
    line_token: str = "▃"
    eod_token: str | None = "<eod>"
    keeps_sentencepiece: bool = False


@dataclass
class JiebaLongestMatchConfig(JiebaConfig):
    """Settings of the tokenizer of ModelCenter's CPM-1 and CPM-2.

    Attributes:
        space_token: What stands for a space of the text; in CPM-2 "▂".
        line_token: What stands for a newline of the text; in CPM-2 "▃".
        eod_token: End of a document.
        max_word_length: Longer words are unknown, in characters.
        half_width: Whether full-width characters become ASCII; ModelCenter's `q2b`.
    """

    name = "jieba_longest_match_tokenizer"
    aliases = {"q2b": "half_width"}
    bos_token: str | None = "<s>"
    eos_token: str | None = "</s>"
    unk_token: str | None = "<unk>"
    sep_token: str | None = "<sep>"
    pad_token: str | None = "<pad>"
    mask_token: str | None = "<mask>"
    space_token: str = "</_>"
    line_token: str = "</n>"
    eod_token: str | None = "<eod>"
    max_word_length: Size = 200
    half_width: bool = False


@dataclass
class JiebaWordPieceConfig(JiebaConfig):
    """Settings of T5-Pegasus' tokenizer."""

    name = "jieba_wordpiece_tokenizer"
    unk_token: str | None = "[UNK]"
    sep_token: str | None = "[SEP]"
    pad_token: str | None = "[PAD]"
    cls_token: str | None = "[CLS]"
    mask_token: str | None = "[MASK]"
    new_words: bool = False


class _CPMTokenizer(JiebaTokenizer):
    """What the tokenizers of CPM share: tokens for spaces and lines, and for the end of a document."""

    config: JiebaUnigramConfig | JiebaLongestMatchConfig
    roles = (*ROLES, "eod")

    # fmt: off
    @property
    def eod_token_id(self) -> int | None: return self.role_id("eod")
    @property
    def space_token_id(self) -> int | None: return self.token_to_id(self.config.space_token)
    @property
    def line_token_id(self) -> int | None: return self.token_to_id(self.config.line_token)
    # fmt: on


@register_preprocessor("jieba_unigram_tokenizer", JiebaUnigramConfig)
class JiebaUnigramTokenizer(_CPMTokenizer):
    """CPM-1's tokenizer, as published: jieba's words, each cut into pieces of a Unigram model."""

    config: JiebaUnigramConfig

    def cut(self, text: str) -> list[str]:
        # Words that are joined by nothing are the text again, whatever they are.
        return super().cut(text) if self.config.joiner else [text]

    def pieces(self, word: str) -> Pieces:
        return super().pieces(word.replace(" ", self.config.space_token).replace("\n", self.config.line_token))


@register_preprocessor("jieba_longest_match_tokenizer", JiebaLongestMatchConfig)
class JiebaLongestMatchTokenizer(_CPMTokenizer):
    """The tokenizer of ModelCenter's CPM-1 and CPM-2: in jieba's words, from the left, the longest known piece.

    Raises:
        TokenizerError: When the vocabulary lacks the token for spaces, for lines, or for unknown characters.
    """

    config: JiebaLongestMatchConfig

    def __init__(self, config: JiebaLongestMatchConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        for name in ("unk_token", "space_token", "line_token"):
            if self.token_to_id(self.config[name]) is None:
                raise TokenizerError(
                    f"{name}: {self.config[name]!r:.100} is not in the vocabulary. "
                    f"Give {name}=, or load the vocabulary that belongs to it."
                )

    def whole(self) -> Mapping[str, str]:
        space, line = self.config.space_token, self.config.line_token
        # ModelCenter's own stand-ins for the two, which a text may hold as well.
        spaces, lines = (" ", "\ufff2", space), ("\n", "\ufff3", line)
        return {**super().whole(), **dict.fromkeys(spaces, space), **dict.fromkeys(lines, line)}

    def pieces(self, word: str) -> Pieces:
        unknown = self.special("unk")
        if len(word) > self.config.max_word_length:
            return unknown._replace(offsets=[(0, len(word))])
        text = word.translate(HALF_WIDTH) if self.config.half_width else word
        ids, tokens, offsets = [], [], []
        start = 0
        while start < len(text):
            end = min(start + self._longest, len(text))
            while end > start and text[start:end] not in self.entries:
                end -= 1
            token = text[start:end] or unknown.tokens[0]
            end = max(end, start + 1)
            ids.append(self.entries.get(token, unknown.ids[0]))
            tokens.append(token)
            offsets.append((start, end))
            start = end
        return Pieces(ids, tokens, offsets)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.entries))


@register_preprocessor("jieba_wordpiece_tokenizer", JiebaWordPieceConfig)
class JiebaWordPieceTokenizer(JiebaTokenizer):
    """T5-Pegasus' tokenizer: jieba's words as they are where the vocabulary has them, else cut as BERT does."""

    config: JiebaWordPieceConfig
    ends = ("cls", "sep")

    def pieces(self, word: str) -> Pieces:
        if word in self.entries:
            return Pieces([self.entries[word]], [word], [(0, len(word))])
        return super().pieces(word)
