"""What is done to the tokens of a sample each time it is read, at random, and yet the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Any, Protocol, TypeAlias

import torch

from ..errors import PreprocessorError

__all__ = [
    "IGNORED", "Features", "SequenceSource", "TransformedDataset", "as_list", "placed", "sentinels",
    "special_id",
]  # fmt: skip

IGNORED = -100
"""The label of a token that has none."""
Features: TypeAlias = dict[str, Any]
"""What a model and its loss take of one sample, by name: lists with one item per token, or single values."""
Transform: TypeAlias = Callable[[Sequence[int], Random], Features]


class SequenceSource(Protocol):
    """Something with sequences of tokens: a store, a list of lists, a dataset's tokens."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class TransformedDataset:
    """Sequences, each transformed when it is read.

    What is random depends on the seed, the epoch and the sample's index, and on nothing else: not on the number of
    workers or ranks, nor on where training was resumed.

    Args:
        sequences: The tokens of each sample.
        transform: Makes features of them; see `TokenMasking`, `SpanCorruption`, `BlankInfilling`, `Holes`.
        seed: Another seed gives other masks.
    """

    def __init__(self, sequences: SequenceSource, transform: Transform, seed: int = 0) -> None:
        self.sequences, self.transform, self.seed = sequences, transform, seed
        # Workers that live longer than an epoch see it change, because the memory is shared.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Makes the random choices of another epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Features:
        if index < 0:
            index += len(self)
        random = Random(f"{self.seed} {int(self._epoch)} {index}")
        tokens, end = as_list(self.sequences[index]), list(getattr(self.transform, "end", ()))
        if end and tokens[-len(end) :] == end:  # as documents of a store have it; the transform adds it
            del tokens[-len(end) :]
        return self.transform(tokens, random)

    @property
    def lengths(self) -> Sequence[int]:
        """Length of each sequence before it is transformed, for samplers."""
        known = getattr(self.sequences, "lengths", None)
        return known if known is not None else [len(self.sequences[i]) for i in range(len(self))]


def placed(lengths: Sequence[int], size: int, random: Random) -> list[tuple[int, int]]:
    """Places of spans in a sequence, anywhere in it, with at least a token between them.

    Args:
        lengths: Of the spans, in their order; of the other tokens there must be at least as many as borders between.
        size: Of the sequence.
        random: Chooses.

    Returns:
        The first token, and one past the last, of each.
    """
    free = size - sum(lengths)
    # Between different numbers of tokens before them, there is always one.
    before = sorted(random.sample(range(free + 1), len(lengths)))
    starts = [own + done for own, done in zip(before, accumulate([0, *lengths]), strict=False)]
    return [(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def as_list(tokens: Any) -> list[int]:
    """Ids as a list of plain integers."""
    return tokens.tolist() if hasattr(tokens, "tolist") else list(tokens)


def sentinels(tokenizer: Any) -> tuple[int, ...]:
    """The ids of a tokenizer's sentinels, of which there must be some.

    Raises:
        PreprocessorError: When the tokenizer has none.
    """
    found = tuple(tokenizer.sentinel_ids)
    if not found:
        raise PreprocessorError("the tokenizer has no sentinels such as <extra_id_0>. Use one of T5 or CPM-2.")
    return found


def special_id(tokenizer: Any, role: str) -> int:
    """The id of a special token that must be there.

    Raises:
        PreprocessorError: When the tokenizer lacks it.
    """
    found = tokenizer.role_id(role) if role in tokenizer.roles else None
    if found is None:
        raise PreprocessorError(f"the tokenizer has no {role} token, which this needs. Use one that has.")
    return int(found)
