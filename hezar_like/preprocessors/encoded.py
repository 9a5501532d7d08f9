"""One tokenized text, and how it is cut: to a length, or into overlapping windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, TypeAlias, TypeVar

from ..errors import OptionError

__all__ = ["Encoded", "Encoding", "Side", "Strategy", "TextInput"]

T = TypeVar("T")
Side = Literal["left", "right"]
Strategy = Literal["longest_first", "only_first", "only_second"]
TextInput: TypeAlias = str | tuple[str, str] | Sequence[str]
"""A text, a pair of texts, or the words of a text."""


class Encoding(Protocol):
    """The tokens of one input as the Rust library gives them: lists with one item per token."""

    # fmt: off
    @property
    def ids(self) -> list[int]: ...
    @property
    def type_ids(self) -> list[int]: ...
    @property
    def tokens(self) -> list[str]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def special_tokens_mask(self) -> list[int]: ...
    @property
    def sequence_ids(self) -> list[int | None]: ...
    @property
    def word_ids(self) -> list[int | None]: ...
    # fmt: on


class _Whole:
    """All tokens of one input. Each list leaves Rust when it is first asked for, and is shared by all windows."""

    def __init__(
        self, encoding: Encoding, source: TextInput, words: bool, byte_level: bool, shared_ids: Mapping[int, int]
    ) -> None:
        self.encoding = encoding
        self.source = source
        self.words = words
        self.byte_level = byte_level
        self.shared_ids = shared_ids

    @cached_property
    def ids(self) -> list[int]:
        ids = self.encoding.ids
        return [self.shared_ids.get(i, i) for i in ids] if self.shared_ids else ids

    @cached_property
    def type_ids(self) -> list[int]:
        return self.encoding.type_ids

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        return self.encoding.offsets

    @cached_property
    def special(self) -> list[bool]:
        return list(map(bool, self.encoding.special_tokens_mask))

    @cached_property
    def sequence_ids(self) -> list[int | None]:
        return self.encoding.sequence_ids

    @cached_property
    def word_ids(self) -> list[int | None]:
        return self.encoding.word_ids

    @cached_property
    def tokens(self) -> list[str]:
        tokens = self.encoding.tokens
        if not self.byte_level:
            return tokens
        # The tokens of a byte-level vocabulary are spelled in stand-ins for bytes, which nobody can read.
        rows = zip(tokens, self.special, self.offsets, self.sequence_ids, self.word_ids, strict=True)
        return [
            token if special else self._part(sequence, word)[start:end]
            for token, special, (start, end), sequence, word in rows
        ]

    def _part(self, sequence: int | None, word: int | None) -> str:
        if isinstance(self.source, str):
            return self.source
        return self.source[(word if self.words else sequence) or 0]

    @cached_property
    def added(self) -> list[int]:
        """Positions of the tokens that the post-processor added; no cut removes them."""
        content = set(self.content[0]).union(self.content[1])
        return [position for position in range(len(self.ids)) if position not in content]

    @cached_property
    def content(self) -> tuple[list[int], list[int]]:
        """Positions of the tokens of the first and of the second text, without what the post-processor added."""
        positions: tuple[list[int], list[int]] = ([], [])
        for position, (sequence, special) in enumerate(zip(self.sequence_ids, self.special, strict=True)):
            if sequence is not None and not special:
                positions[sequence].append(position)
        return positions


@dataclass(slots=True, repr=False, eq=False)
class Encoded:
    """The tokens of one text or pair of texts, or of one window of it.

    All lists have one item per token and are in the same order. They may be shared: do not change them.

    Attributes:
        ids: Ids in the vocabulary.
    """

    ids: list[int]
    _whole: _Whole
    _kept: list[int] | None = None

    @classmethod
    def of(
        cls,
        encoding: Encoding,
        source: TextInput,
        *,
        words: bool = False,
        byte_level: bool = False,
        shared_ids: Mapping[int, int] | None = None,
    ) -> Encoded:
        """Wraps what the Rust tokenizer gave for a source.

        Args:
            encoding: The tokens.
            source: The text, the pair, or the words.
            words: Whether the source is a list of words.
            byte_level: Whether tokens are spelled in bytes, so that `tokens` shows slices of the source.
            shared_ids: Ids to replace by others.
        """
        whole = _Whole(encoding, source, words, byte_level, shared_ids or {})
        return cls(whole.ids, whole)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Encoded({len(self)} tokens: {self.tokens()[:12]}{' ...' if len(self) > 12 else ''})"

    @property
    def source(self) -> TextInput:
        """What was tokenized: the text, the pair, or the words."""
        return self._whole.source

    @property
    def type_ids(self) -> list[int]:
        """Which part of a pair each token belongs to, as the model's token type embedding wants it."""
        return self._pick(self._whole.type_ids)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Start and end in characters of the source: of the text, of the token's text in a pair, or of its word."""
        return self._pick(self._whole.offsets)

    @property
    def special(self) -> list[bool]:
        """True where the post-processor added the token."""
        return self._pick(self._whole.special)

    @property
    def content(self) -> list[int]:
        """Positions in this row of the tokens that the post-processor did not add."""
        return [position for position, special in enumerate(self.special) if not special]

    @property
    def sequence_ids(self) -> list[int | None]:
        """0 or 1: which text the token comes from; None where the post-processor added it."""
        return self._pick(self._whole.sequence_ids)

    @property
    def word_ids(self) -> list[int | None]:
        """The number of the word the token is a part of; None where the post-processor added it."""
        return self._pick(self._whole.word_ids)

    def tokens(self) -> list[str]:
        """The tokens as text: as the vocabulary spells them, or slices of the source for byte-level vocabularies."""
        return self._pick(self._whole.tokens)

    def truncated(self, max_length: int, side: Side = "right", strategy: Strategy = "longest_first") -> Encoded:
        """Drops content until at most `max_length` tokens are left; what the post-processor added stays.

        Args:
            max_length: Number of tokens with the added ones.
            side: The end of each text that is dropped.
            strategy: For pairs: from which text tokens are dropped.

        Raises:
            OptionError: When there is no room for the added tokens, or the text named by `strategy` is too short.
        """
        if len(self) <= max_length:
            return self
        first, second = self._content()
        room = max_length - len(self._whole.added)
        if room < 0:
            raise OptionError(
                f"max_length={max_length} has no room for the {len(self._whole.added)} special tokens. "
                "Give a larger one, or add_special_tokens=False."
            )
        sizes = _sizes(len(first), len(second), room, strategy)
        return self._cut(*(_keep(part, size, side) for part, size in zip((first, second), sizes, strict=True)))

    def windows(self, max_length: int, overlap: int = 0, *, sequence: int | None = None) -> list[tuple[int, Encoded]]:
        """Cuts a long text into windows, each with the tokens that the post-processor added.

        Args:
            max_length: Largest number of tokens of a window, with the added ones.
            overlap: How many content tokens a window shares with the one before.
            sequence: For pairs: which text slides, 0 or 1; the other is whole in every window. Default: the second.

        Returns:
            In reading order: the index in the text's content at which the window begins, and the window. A text that
            fits gives one.

        Raises:
            OptionError: When there is no room, or the overlap is not smaller than the room.
        """
        content = self._content()
        sliding = sequence if sequence is not None else int(bool(content[1]))
        moving, still = content[sliding], content[1 - sliding]
        room = max_length - len(self._whole.added) - len(still)
        if not 0 <= overlap < room:
            raise OptionError(
                f"overlap={overlap} must be at least 0 and less than the {max(room, 0)} tokens that max_length="
                f"{max_length} leaves for the text. Give a smaller overlap or a larger max_length."
            )
        if len(moving) <= room:
            return [(0, self)]
        starts = range(0, len(moving) - overlap, room - overlap)
        return [(start, self._cut(still, moving[start : start + room])) for start in starts]

    def _pick(self, values: list[T]) -> list[T]:
        return values if self._kept is None else [values[position] for position in self._kept]

    def _content(self) -> tuple[list[int], list[int]]:
        first, second = self._whole.content
        if self._kept is None:
            return first, second
        kept = set(self._kept)
        return [position for position in first if position in kept], [p for p in second if p in kept]

    def _cut(self, *content: list[int]) -> Encoded:
        kept = sorted(sum(content, self._whole.added))
        return Encoded([self._whole.ids[position] for position in kept], self._whole, kept)


def _keep(part: list[int], size: int, side: Side) -> list[int]:
    return part[:size] if side == "right" else part[len(part) - size :]


def _sizes(first: int, second: int, room: int, strategy: Strategy) -> tuple[int, int]:
    """How many tokens of each text stay, by the rules of the Rust library, which transformers shares."""
    excess = first + second - room
    if strategy == "longest_first":
        shorter, longer = min(first, second), max(first, second)
        longer = max(shorter, room - shorter)
        if shorter + longer > room:
            shorter, longer = room // 2, room - room // 2
        return (shorter, longer) if first <= second else (longer, shorter)
    sizes = (first - excess, second) if strategy == "only_first" else (first, second - excess)
    if min(sizes) < 0:
        raise OptionError(
            f"truncation={strategy!r} cannot drop {excess} tokens: that text is too short. Use 'longest_first'."
        )
    return sizes
