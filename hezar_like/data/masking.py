"""Sequences to learn language from: masked tokens (BERT), spans behind sentinels (T5), holes (CPM), causal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, Self

from ..errors import ConfigError
from .transforms import IGNORED, Features, placed, sentinels, special_id

__all__ = ["CausalTokens", "Holes", "SpanCorruption", "TokenMasking"]


@dataclass(frozen=True)
class CausalTokens:
    """Tokens that are predicted from those before them (GPT).

    Attributes:
        begin: Ids before every sequence.
        end: Ids after it.
    """

    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """The settings of a tokenizer: its eos, if it has one, ends a sequence."""
        return cls(end=() if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,))

    def __call__(self, tokens: Sequence[int], random: Random) -> Features:
        """Features `token_ids` and `labels`; the first label does not count, so that rows can be packed."""
        ids = [*self.begin, *tokens, *self.end]
        return {"token_ids": ids, "labels": [IGNORED, *ids[1:]]}


@dataclass(frozen=True)
class TokenMasking:
    """Masked tokens to be found again (Devlin et al., 2019): https://arxiv.org/abs/1810.04805.

    Attributes:
        mask_id: The mask.
        vocab_size: Ids below this stand in for others at random.
        kept_ids: Special tokens, which are neither masked nor stand in.
        begin: Ids before every sequence.
        end: Ids after it.
        share: The share of tokens that are to be found; at least one is.
        masked: Of these, the share that is masked.
        replaced: Of these, the share in whose place a random token stands; the rest stays as it is.
    """

    mask_id: int
    vocab_size: int
    kept_ids: Collection[int] = frozenset()
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    share: float = 0.15
    masked: float = 0.8
    replaced: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.share, self.masked, self.replaced, self.masked + self.replaced)
        if not all(0 <= value <= 1 for value in shares):
            raise ConfigError("TokenMasking: share, masked, replaced and masked + replaced must be between 0 and 1.")

    @classmethod
    def of(cls, tokenizer: Any, **settings: Any) -> Self:
        """The settings of a tokenizer: its mask, and its cls and sep around a sequence, if it has both."""
        around = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        framed: dict[str, Any] = {} if None in around else {"begin": around[:1], "end": around[1:]}
        kept = frozenset(tokenizer.special_ids)
        size = tokenizer.max_token_id + 1
        return cls(special_id(tokenizer, "mask"), size, kept, **{**framed, **settings})

    def __call__(self, tokens: Sequence[int], random: Random) -> Features:
        """Features `token_ids` and `labels`."""
        kept = self.kept_ids
        ids = [*self.begin, *tokens, *self.end]
        labels = [IGNORED] * len(ids)
        first = len(self.begin)
        candidates = [place for place, token in enumerate(tokens, first) if token not in kept]
        count = min(len(candidates), max(1, round(len(candidates) * self.share)))
        for place in random.sample(candidates, count):
            labels[place] = ids[place]
            draw = random.random()
            if draw < self.masked:
                ids[place] = self.mask_id
            elif draw < self.masked + self.replaced:
                ids[place] = self._other(random)
        return {"token_ids": ids, "labels": labels}

    def _other(self, random: Random) -> int:
        while (token := random.randrange(self.vocab_size)) in self.kept_ids:
            pass
        return token


@dataclass(frozen=True)
class SpanCorruption:
    """Spans to be written behind sentinels (Raffel et al., 2020): https://arxiv.org/abs/1910.10683.

    Attributes:
        sentinels: Their ids, in the order of their use.
        end: Ids after the input and after the output.
        share: The share of tokens in spans.
        mean_span: The mean length of spans.
    """

    sentinels: tuple[int, ...]
    end: tuple[int, ...] = ()
    share: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.mean_span >= 1 and self.sentinels):
            raise ConfigError("SpanCorruption: share must be between 0 and 1, mean_span at least 1, with a sentinel.")

    @classmethod
    def of(cls, tokenizer: Any, **settings: Any) -> Self:
        """The settings of a tokenizer with sentinels, such as T5's."""
        eos = tokenizer.eos_token_id
        return cls(sentinels(tokenizer), **{"end": () if eos is None else (eos,), **settings})

    def __call__(self, tokens: Sequence[int], random: Random) -> Features:
        """Features `token_ids`, the input, and `labels`, the output."""
        if len(tokens) < 2:
            return {"token_ids": [*tokens, *self.end], "labels": list(self.end)}
        noise = min(max(round(len(tokens) * self.share), 1), len(tokens) - 1)
        spans = max(min(round(noise / self.mean_span), len(self.sentinels), len(tokens) - noise), 1)
        source: list[int] = []
        target: list[int] = []
        first, rest, done = tokens[0], tokens[1:], 0  # a text begins with what is seen
        hidden = placed(_cut(noise, spans, random), len(rest), random)
        for (start, end), sentinel in zip(hidden, self.sentinels, strict=False):
            source += [*rest[done:start], sentinel]
            target += [sentinel, *rest[start:end]]
            done = end
        return {"token_ids": [first, *source, *rest[done:], *self.end], "labels": [*target, *self.end]}


@dataclass(frozen=True)
class Holes:
    """A hole to be filled from what stands on both sides, as CPM-1 of ModelCenter was trained.

    The hole begins between an eighth and a quarter of the sequence, and ends between three quarters and the end.

    Attributes:
        document_end: The id that ends documents; where it is last, the hole goes up to the end.
    """

    document_end: int | None = None

    def __call__(self, tokens: Sequence[int], random: Random) -> Features:
        """Features `token_ids`, `context` (bool, True = given), and `labels` at the places of the tokens."""
        size = len(tokens)
        begin = min(max(random.randint(size // 8, size // 4), 1), size)  # the first token is predicted from none
        end = random.randint(size * 3 // 4, size)
        if size and tokens[-1] == self.document_end:
            end = size
        end = max(end, min(begin + 1, size))
        return {
            "token_ids": list(tokens),
            "context": [not begin <= place < end for place in range(size)],
            "labels": [*[IGNORED] * begin, *tokens[begin:end], *[IGNORED] * (size - end)],
        }


def _cut(total: int, parts: int, random: Random) -> list[int]:
    """Lengths, each at least 1, that add up."""
    borders = [0, *sorted(random.sample(range(1, total), parts - 1)), total]
    return [end - begin for begin, end in pairwise(borders)]
