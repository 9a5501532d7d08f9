"""Tokenizing a corpus word by word: a word that occurs again is not tokenized again.

A text's tokens are those of its words where no rule looks across a space. That is certain for two kinds, which are most
of those in use: BERT's, and the byte-level one with GPT-2's rule for words. All others get whole texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from tokenizers import models, normalizers, pre_tokenizers

from ..preprocessors.rust_backend import guarded
from ..preprocessors.text_coding import TextCoding
from ..preprocessors.text_inputs import refuse_broken_text

__all__ = ["WordRows"]

MOST_WORDS = 500_000
LONGEST_WORD = 40
_WORDS_WITH_SPACE = re.compile(r"[ \n]?\S+").findall


class WordRows:
    """Ids of texts without special tokens, equal to those of the tokenizer.

    Args:
        tokenizer: A `Tokenizer`; it must not be changed afterwards.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._split = _splitter(tokenizer)
        self._known: dict[str, list[int]] = {}

    @property
    def by_words(self) -> bool:
        """Whether this tokenizer is of a kind whose tokens are those of the words."""
        return self._split is not None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text.

        Raises:
            TokenizerError: When the tokenizer fails.
        """
        if self._split is None:
            return self._encode(texts)
        known = self._known
        rows = list(map(self._split, texts))
        new = list(set(chain.from_iterable(rows)).difference(known))
        known.update(zip(new, self._encode(new), strict=True))
        result = [list(chain.from_iterable(map(known.__getitem__, row))) for row in rows]
        if len(known) > MOST_WORDS:
            known.clear()
        for word in new:
            if len(word) > LONGEST_WORD:  # whole texts, mostly, which do not come again
                known.pop(word, None)
        return result

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        tokenizer = self._tokenizer
        with guarded("the tokenizer failed on these texts", "Check its tokenizer.json."):
            if type(tokenizer).run_backend is TextCoding.run_backend:
                # Nobody asks for offsets here, and without them it is faster.
                rows = [found.ids for found in tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)]
            else:
                refuse_broken_text(list(texts))
                rows = [found.ids for found in tokenizer.run_backend(list(texts), False, False)]
        shared = tokenizer.shared_ids
        return [[shared.get(token, token) for token in row] for row in rows] if shared else rows


def _splitter(tokenizer: Any) -> Callable[[str], list[str]] | None:
    """What cuts a text into words whose tokens are the text's; None where that is not certain."""
    if type(tokenizer).run_backend is not TextCoding.run_backend:
        return None
    backend = tokenizer.backend
    added = backend.get_added_tokens_decoder().values()
    if any(re.search(r"\s", token.content) for token in added):
        return None
    before, rule, model = backend.normalizer, backend.pre_tokenizer, backend.model
    if (
        isinstance(before, normalizers.BertNormalizer)
        and isinstance(rule, pre_tokenizers.BertPreTokenizer)
        and isinstance(model, models.WordPiece)
    ):
        return _split_at_spaces
    if (
        before is None
        and isinstance(rule, pre_tokenizers.ByteLevel)
        and (rule.use_regex and not rule.add_prefix_space)
        and isinstance(model, models.BPE)
        and not model.dropout
        and not any(token.lstrip or token.rstrip for token in added)
    ):
        return _split_before_spaces
    return None


def _split_at_spaces(text: str) -> list[str]:
    """Words where spaces are left out; other white space stays, and is Rust's to cut at."""
    return text.replace("\n", " ").split(" ")


def _split_before_spaces(text: str) -> list[str]:
    """Words with the space before them; the whole text where spaces are not single, or of other kinds."""
    words: list[str] = _WORDS_WITH_SPACE(text)
    return words if sum(map(len, words)) == len(text) else [text]
