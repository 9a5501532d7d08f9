"""Processors: rules that change the scores of the next token. The rules and their order are transformers'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .options import GenerationConfig

__all__ = ["NOTHING", "Processor", "Written", "processors"]

NOTHING = -1
"""Stands where a shorter row has no token; it is like no token."""
FORBIDDEN = float("-inf")


@dataclass
class Written:
    """What stands before the next token.

    Attributes:
        tokens: [rows, length] int64, of a decoder with its input; `NOTHING` is padding.
        new: How many of them are new.
        limits: How many each row may have of new ones, [rows] int64.
    """

    tokens: Tensor
    new: int
    limits: Tensor

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each row, [rows] int64."""
        return (self.tokens != NOTHING).sum(1)


Processor: TypeAlias = Callable[[Tensor, Written], Tensor]
"""Scores [rows, vocabulary], which it may overwrite, and what is written, to scores."""


def processors(config: GenerationConfig, ends: Sequence[int], size: int, device: torch.device) -> list[Processor]:
    """The rules that a config asks for, in their order; those that decide what is drawn are in `sampling`.

    Args:
        config: The options.
        ends: The tokens that end a text.
        size: Number of scores.
        device: Of the scores.
    """

    def ids(tokens: Sequence[int] | int | None) -> Tensor:
        listed = [tokens] if isinstance(tokens, int) else tokens or ()
        return torch.tensor([token for token in listed if token < size], dtype=torch.int64, device=device)

    own_ends = ids(list(ends))
    found: list[Processor] = []
    if config.repetition_penalty != 1.0:
        found.append(penalize_repetition(config.repetition_penalty, config.repetition_window))
    if config.no_repeat_ngram_size:
        found.append(forbid_repeated_ngrams(config.no_repeat_ngram_size))
    if config.bad_words_ids:
        found.append(forbid_sequences(config.bad_words_ids, size, device))
    if config.min_length and len(own_ends):
        found.append(forbid_while(own_ends, lambda written: written.lengths < config.min_length))
    if config.min_new_tokens and len(own_ends):
        found.append(forbid_first(own_ends, config.min_new_tokens))
    if config.forced_bos_token_id is not None:
        found.append(force_first(ids(config.forced_bos_token_id)))
    if config.forced_eos_token_id is not None:
        found.append(force_last(ids(config.forced_eos_token_id)))
    if config.suppress_tokens:
        found.append(forbid(ids(config.suppress_tokens)))
    if config.begin_suppress_tokens:
        found.append(forbid_first(ids(config.begin_suppress_tokens), 1))
    return found


def penalize_repetition(penalty: float, window: int | None = None) -> Processor:
    """Divides the scores of tokens that are there by `penalty`, and multiplies those below 0 (CTRL).

    Args:
        penalty: Above 1 against repetition, below 1 for it.
        window: How many of the last tokens count; None: all.
    """

    def process(scores: Tensor, written: Written) -> Tensor:
        tokens = written.tokens if window is None else written.tokens[:, -window:]
        if not tokens.size(1):
            return scores
        # Padding must count for no token: it stands for one that is there anyway, or, where there is none, is put back.
        there = tokens != NOTHING
        tokens = torch.where(there, tokens, tokens.amax(1, keepdim=True).clamp(min=0))
        penalty_of_row = torch.where(there.any(1, keepdim=True), penalty, 1.0)
        old = scores.gather(1, tokens)
        return scores.scatter_(1, tokens, torch.where(old < 0, old * penalty_of_row, old / penalty_of_row))

    return process


def forbid_repeated_ngrams(size: int) -> Processor:
    """Forbids the tokens that would end an n-gram of `size` that is there already (Paulus et al., 2017)."""

    def process(scores: Tensor, written: Written) -> Tensor:
        tokens = written.tokens
        if tokens.size(1) < size:
            return scores
        grams = tokens.unfold(1, size, 1)
        beginning = tokens[:, tokens.size(1) - size + 1 :]
        same = (grams[..., :-1] == beginning[:, None]).all(-1) & (grams[..., 0] != NOTHING)
        return forbid_where(scores, grams[..., -1], same)

    return process


def forbid_sequences(sequences: Sequence[Sequence[int]], size: int, device: torch.device) -> Processor:
    """Forbids the last token of each sequence where what is written ends with the others."""
    longest = max(map(len, sequences))
    kept = [sequence for sequence in sequences if max(sequence) < size]
    # Padded on the left with what every token is like.
    beginnings = torch.tensor([[-2] * (longest - len(s)) + list(s[:-1]) for s in kept], device=device)
    lasts = torch.tensor([s[-1] for s in kept], dtype=torch.int64, device=device)

    def process(scores: Tensor, written: Written) -> Tensor:
        tail = F.pad(written.tokens, (longest - 1, 0), value=NOTHING)
        tail = tail[:, tail.size(1) - longest + 1 :]
        same = ((tail[:, None] == beginnings) | (beginnings == -2)).all(-1)
        return forbid_where(scores, lasts.expand(len(scores), -1), same)

    return process if kept else lambda scores, written: scores


def forbid(tokens: Tensor) -> Processor:
    """Forbids tokens."""
    return lambda scores, written: scores.index_fill_(1, tokens, FORBIDDEN)


def forbid_first(tokens: Tensor, steps: int) -> Processor:
    """Forbids tokens among the first `steps` new ones."""
    return lambda scores, written: scores.index_fill_(1, tokens, FORBIDDEN) if written.new < steps else scores


def forbid_while(tokens: Tensor, condition: Callable[[Written], Tensor]) -> Processor:
    """Forbids tokens in the rows where a condition [rows] holds."""

    def process(scores: Tensor, written: Written) -> Tensor:
        scores[:, tokens] = scores[:, tokens].masked_fill(condition(written)[:, None], FORBIDDEN)
        return scores

    return process


def force_first(tokens: Tensor) -> Processor:
    """Lets nothing but these tokens come first."""
    return lambda scores, written: only(scores, tokens) if written.new == 0 else scores


def force_last(tokens: Tensor) -> Processor:
    """Lets nothing but these tokens come last, where the number of tokens runs out."""

    def process(scores: Tensor, written: Written) -> Tensor:
        last = (written.limits == written.new + 1)[:, None]
        return torch.where(last, only(scores, tokens), scores)

    return process


def only(scores: Tensor, tokens: Tensor) -> Tensor:
    """Scores of 0 for these tokens, and none for all others."""
    return torch.full_like(scores, FORBIDDEN).index_fill_(1, tokens, 0.0)


def forbid_where(scores: Tensor, tokens: Tensor, where: Tensor) -> Tensor:
    """Forbids tokens [rows, any] of each row where a mask of that shape says so."""
    hits = torch.zeros_like(scores, dtype=torch.bool)
    hits.scatter_(1, torch.where(where, tokens, 0), where)  # one that does not count must not hide one that does
    zero = (where & (tokens == 0)).any(1)
    hits[:, 0] = zero
    return scores.masked_fill_(hits, FORBIDDEN)
