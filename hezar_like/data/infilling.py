"""Blanks to be filled behind a text, as GLM learns (Du et al., 2022): https://arxiv.org/abs/2103.10360."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, factorial
from random import Random
from typing import Any, Self

from ..errors import ConfigError
from .transforms import IGNORED, Features, placed, special_id

__all__ = ["BlankInfilling", "blanks_filled"]

LONGEST_SPAN = 40


@dataclass(frozen=True)
class BlankInfilling:
    """Makes blanks in sequences: short spans, whole sentences, or all that follows.

    Attributes:
        mask_id: The blank for spans.
        start_id: What a piece that fills a blank starts with.
        end_id: What is written where it ends.
        sentence_mask_id: The blank for sentences.
        suffix_mask_id: The blank for what follows.
        sentence_ends: Ids after which a sentence ends; without any, no sentences are blanked.
        begin: Ids before every text.
        end: Ids after it, but not after the blank of what follows.
        kinds: How often each kind is taken: spans, sentences, what follows.
        share: The share of tokens in spans or sentences.
        mean_span: The mean length of spans, of a Poisson distribution without 0.
        shortest_suffix: The least share of a text that is blanked as what follows.
    """

    mask_id: int
    start_id: int
    end_id: int
    sentence_mask_id: int | None = None
    suffix_mask_id: int | None = None
    sentence_ends: frozenset[int] = frozenset()
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    kinds: tuple[float, float, float] = (0.5, 0.25, 0.25)
    share: float = 0.15
    mean_span: float = 3.0
    shortest_suffix: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.mean_span > 0 and 0 <= self.shortest_suffix <= 1 and min(self.kinds) >= 0):
            raise ConfigError("BlankInfilling: share and shortest_suffix are shares, mean_span is positive.")

    @classmethod
    def of(cls, tokenizer: Any, **settings: Any) -> Self:
        """The settings of a tokenizer with GLM's command tokens."""
        mask, start, end = (special_id(tokenizer, role) for role in ("mask", "sop", "eop"))
        found = {
            "sentence_mask_id": tokenizer.role_id("smask"),
            "suffix_mask_id": tokenizer.role_id("gmask"),
            "sentence_ends": frozenset(i for token in ".!?。！？…" if (i := tokenizer.token_to_id(token)) is not None),
            "begin": () if tokenizer.cls_token_id is None else (tokenizer.cls_token_id,),
            "end": () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,),
        }
        return cls(mask, start, end, **{**found, **settings})

    def __call__(self, tokens: Sequence[int], random: Random) -> Features:
        """Features `token_ids`, `position_ids` (two rows), `sep` and `labels`, which stand where they are predicted."""
        kind = random.choices(("spans", "sentences", "suffix"), self.kinds)[0]
        size = len(tokens)
        blank, end = self.mask_id, self.end
        if kind == "suffix" and self.suffix_mask_id is not None and size:
            least = min(max(1, int(size * self.shortest_suffix)), size)
            spans = [(size - random.randint(least, size), size)]
            blank, end = self.suffix_mask_id, ()
        elif kind == "sentences" and self.sentence_mask_id is not None and self.sentence_ends:
            spans = self._sentences(tokens, random)
            blank = self.sentence_mask_id
        else:
            spans = self._spans(size, random)
        order = random.sample(range(len(spans)), len(spans))
        return blanks_filled(
            tokens, spans, order, blank=blank, start=self.start_id, stop=self.end_id, begin=self.begin, end=end
        )

    def _spans(self, size: int, random: Random) -> list[tuple[int, int]]:
        """Places of spans with at least a token between them."""
        left = round(size * self.share) or min(size, 1)
        lengths: list[int] = []
        weights = list(accumulate(_poisson(k, self.mean_span) for k in range(1, LONGEST_SPAN + 1)))
        while left > 0:
            length = min(random.choices(range(1, LONGEST_SPAN + 1), cum_weights=weights)[0], left)
            lengths.append(length)
            left -= length
        return placed(lengths[: size - sum(lengths) + 1], size, random)

    def _sentences(self, tokens: Sequence[int], random: Random) -> list[tuple[int, int]]:
        """Places of whole sentences, about as many tokens as `share` says, in order."""
        ends = [place + 1 for place, token in enumerate(tokens) if token in self.sentence_ends]
        if not ends or ends[-1] != len(tokens):
            ends.append(len(tokens))
        sentences = [(begin, end) for begin, end in zip([0, *ends], ends, strict=False) if begin < end]
        chosen: list[tuple[int, int]] = []
        for sentence in random.sample(sentences, len(sentences)):
            if sum(end - begin for begin, end in chosen) >= len(tokens) * self.share:
                break
            chosen.append(sentence)
        return sorted(chosen)


def blanks_filled(
    tokens: Sequence[int],
    spans: Sequence[tuple[int, int]],
    order: Sequence[int],
    *,
    blank: int,
    start: int,
    stop: int,
    begin: tuple[int, ...] = (),
    end: tuple[int, ...] = (),
) -> Features:
    """A text with blanks, and behind it the pieces that fill them.

    Args:
        tokens: The text.
        spans: First token, and one past the last, of each blank, in order.
        order: In which order the pieces come.
        blank: The token of a blank.
        start: The token a piece starts with.
        stop: The token that is written where it ends.
        begin: What stands before the text.
        end: What stands after it.

    Returns:
        `token_ids` [length]; `position_ids`, two rows [length]: the place in the text, for a piece that of its blank,
        and the place in the piece, from 1 on; `sep`, the number of tokens of the text; and `labels` [length], which
        stand where they are predicted.
    """
    ids, places, done = list(begin), [], 0
    for first, last in spans:
        ids += tokens[done:first]
        places.append(len(ids))
        ids.append(blank)
        done = last
    ids += [*tokens[done:], *end]
    sep = len(ids)
    labels = [IGNORED] * sep
    positions, inside = list(range(sep)), [0] * sep
    for number in order:
        piece = tokens[spans[number][0] : spans[number][1]]
        ids += [start, *piece]
        labels += [*piece, stop]
        positions += [places[number]] * (len(piece) + 1)
        inside += range(1, len(piece) + 2)
    return {"token_ids": ids, "position_ids": [positions, inside], "sep": sep, "labels": labels}


def _poisson(k: int, mean: float) -> float:
    return mean**k * exp(-mean) / factorial(k)
