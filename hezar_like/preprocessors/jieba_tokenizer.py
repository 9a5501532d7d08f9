"""The base of tokenizers that cut a text into words with jieba first.

tokenizer.json holds the vocabulary and what happens to one word. Special tokens that a text spells are read as text, as
in the original systems; only tokens that were added to the vocabulary later are never cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

from ..errors import TokenizerError
from .encoded import Encoding, TextInput
from .jieba_words import cut_words
from .text_inputs import refuse_broken_text
from .tokenizer import Tokenizer, TokenizerConfig

__all__ = ["JiebaConfig", "JiebaTokenizer", "Pieces"]

T = TypeVar("T")
CACHED_WORDS, CACHED_LENGTH = 50_000, 32


@dataclass
class JiebaConfig(TokenizerConfig):
    """Settings of the tokenizers that use jieba.

    Attributes:
        new_words: Whether jieba also makes words that are not in its dictionary.
    """

    new_words: bool = True


class Pieces(NamedTuple):
    """The tokens of a word; offsets are characters of the word."""

    ids: Sequence[int]
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]]


class Placed(NamedTuple):
    """A word's tokens in an input.

    Attributes:
        pieces: The tokens.
        start: Where the word begins, in characters of its text.
        sequence: Which text of a pair it is in.
        word: Its number; None for a token that the template adds.
    """

    pieces: Pieces
    start: int
    sequence: int
    word: int | None


class Row:
    """The tokens of one input, as an `Encoding`; each list is made when it is asked for."""

    def __init__(self, words: Sequence[Placed]) -> None:
        self.words = words

    def _per_token(self, value: Callable[[Placed], T]) -> list[T]:
        return [one for word in self.words for one in [value(word)] * len(word.pieces.ids)]

    @property
    def ids(self) -> list[int]:
        return [token_id for word in self.words for token_id in word.pieces.ids]

    @property
    def tokens(self) -> list[str]:
        return [token for word in self.words for token in word.pieces.tokens]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        return [(word.start + begin, word.start + end) for word in self.words for begin, end in word.pieces.offsets]

    @property
    def type_ids(self) -> list[int]:
        return self._per_token(lambda word: word.sequence)

    @property
    def special_tokens_mask(self) -> list[int]:
        return self._per_token(lambda word: int(word.word is None))

    @property
    def sequence_ids(self) -> list[int | None]:
        return self._per_token(lambda word: None if word.word is None else word.sequence)

    @property
    def word_ids(self) -> list[int | None]:
        return self._per_token(lambda word: word.word)


class JiebaTokenizer(Tokenizer):
    """Base of the tokenizers that cut words with jieba; a kind says what becomes of a word.

    Raises:
        MissingDependency: When a text is tokenized and jieba is not installed.
    """

    config: JiebaConfig
    ends: ClassVar[tuple[str, ...]] = ()
    """The roles of the token before a text and of the token after each text, where there are some."""

    def __init__(self, config: JiebaConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._known: dict[str, Pieces] = {}
        self._known_under = copy(self.config)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_known": {}}

    @property
    def self_contained(self) -> bool:
        return False

    # -- what a kind says -------------------------------------------------------------------------------------------

    def cut(self, text: str) -> list[str]:
        """The words of a text; joined they are the text."""
        return cut_words(text, new_words=self.config.new_words)

    def pieces(self, word: str) -> Pieces:
        """The tokens of a word."""
        encoding = self.backend.encode(word, add_special_tokens=False)
        return Pieces(encoding.ids, encoding.tokens, encoding.offsets)

    def whole(self) -> Mapping[str, str]:
        """What jieba must not cut, each with the token that stands for it: here the tokens that were added later."""
        size = self.vocab_size
        added = self.backend.get_added_tokens_decoder().items()
        return {token.content: token.content for token_id, token in added if token_id >= size}

    @cached_property
    def entries(self) -> dict[str, int]:
        """The vocabulary without tokens that were added."""
        return self.get_vocab(with_added_tokens=False)

    # -- a text to tokens -------------------------------------------------------------------------------------------

    def run_backend(self, batch: list[TextInput], words: bool, add_special_tokens: bool) -> Sequence[Encoding]:
        refuse_broken_text(batch)
        if self.config != self._known_under:
            self._known, self._known_under = {}, copy(self.config)
        tokens = self.whole().items()
        whole = {part: Pieces([self._id(token)], [token], [(0, len(part))]) for part, token in tokens}
        ends = [self.special(role) for role in self.ends] if add_special_tokens else []
        return [self._row([item] if words or isinstance(item, str) else item, whole, ends) for item in batch]

    def _row(self, texts: Sequence[TextInput], whole: Mapping[str, Pieces], ends: Sequence[Pieces]) -> Row:
        words = [Placed(ends[0], 0, 0, None)] if ends else []
        for sequence, text in enumerate(texts):
            if isinstance(text, str):
                found = enumerate(self._words(text, whole))
                words += [Placed(pieces, start, sequence, number) for number, (start, pieces) in found]
            else:
                for number, given in enumerate(text):
                    words += [Placed(pieces, start, sequence, number) for start, pieces in self._words(given, whole)]
            if ends:
                words.append(Placed(ends[1], 0, sequence, None))
        return Row(words)

    def _words(self, text: str, whole: Mapping[str, Pieces]) -> Iterator[tuple[int, Pieces]]:
        """The words of a text: where each begins, and its tokens."""
        start = 0
        for part in _split(text, whole):
            for word in [part] if part in whole else self.cut(part):
                yield start, whole.get(word) or self._pieces(word)
                start += len(word)

    def _pieces(self, word: str) -> Pieces:
        pieces = self._known.get(word)
        if pieces is None:
            pieces = self.pieces(word)
            if len(self._known) >= CACHED_WORDS:
                self._known.clear()
            if len(word) <= CACHED_LENGTH:
                self._known[word] = pieces
        return pieces

    def special(self, role: str) -> Pieces:
        """The token of a role as the template adds it.

        Raises:
            TokenizerError: When the vocabulary lacks it.
        """
        token = self.role(role)
        if token is None:
            raise TokenizerError(
                f"the {role}_token {getattr(self.config, f'{role}_token')!r:.100} is not in the vocabulary. "
                "Correct the config, or give add_special_tokens=False."
            )
        return Pieces([self._id(token)], [token], [(0, 0)])

    def num_special_tokens_to_add(self, is_pair: bool = False) -> int:
        return (3 if is_pair else 2) if self.ends else 0

    def _id(self, token: str) -> int:
        token_id = self.token_to_id(token)
        assert token_id is not None
        return token_id


def _split(text: str, whole: Iterable[str]) -> list[str]:
    """Cuts a text before and after everything that stays whole; of two that begin together, the longer counts."""
    pattern = "|".join(map(re.escape, sorted(whole, key=len, reverse=True)))
    if not pattern:
        return [text]
    return [part for part in re.split(f"({pattern})", text) if part]
