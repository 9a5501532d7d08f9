"""Raw text to learn a language from, in each of the ways that models learn it; from rows, or from a token store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor

from ..errors import OptionError, require
from ..fields import Between, Probability
from ..registry import register_dataset
from .collators import PadCollator
from .dataset import ROWS_AT_ONCE, TextConfig, TextDataset
from .indexed_dataset import DistributedIndexedDataset, IndexedDataset
from .infilling import BlankInfilling
from .masking import CausalTokens, Holes, SpanCorruption, TokenMasking
from .packing import PackCollator
from .rows import Rows
from .store_format import store_paths
from .transforms import Features, Transform, TransformedDataset

__all__ = ["LanguageModelingConfig", "LanguageModelingDataset"]


@dataclass(kw_only=True)
class LanguageModelingConfig(TextConfig):
    """Raw text."""

    text_field: str = "text"
    """Column of the texts, where they are not in a token store."""
    seed: Annotated[int, Between(0, 2**62)] = 0
    """What random choices begin with."""


@dataclass(kw_only=True)
class CausalLanguageModelingConfig(LanguageModelingConfig):
    """Raw text whose tokens are predicted from those before."""

    name = "causal_language_modeling"


@dataclass(kw_only=True)
class MaskedLanguageModelingConfig(LanguageModelingConfig):
    """Raw text with masked tokens."""

    name = "masked_language_modeling"
    share: Probability = 0.15
    """The share of tokens that are to be found."""


@dataclass(kw_only=True)
class SpanCorruptionConfig(LanguageModelingConfig):
    """Raw text with spans behind sentinels."""

    name = "span_corruption"
    share: Probability = 0.15
    """The share of tokens in spans."""
    mean_span: Annotated[float, Between(1, 1000)] = 3.0
    """The mean length of spans."""


@dataclass(kw_only=True)
class BlankInfillingConfig(LanguageModelingConfig):
    """Raw text with blanks that are filled behind it."""

    name = "blank_infilling"
    share: Probability = 0.15
    """The share of tokens in blanks."""
    kinds: tuple[float, float, float] = (0.5, 0.25, 0.25)
    """How often blanks are short spans, whole sentences, or all that follows."""


@dataclass(kw_only=True)
class HoleFillingConfig(LanguageModelingConfig):
    """Raw text with holes that are filled from both sides."""

    name = "hole_filling"


class LanguageModelingDataset(TextDataset):
    """Base: each kind says how a sequence is transformed. `path` may also name a store, as `corpus` or `corpus.bin`.

    Random choices depend on the seed, the epoch (`set_epoch`) and the sample.
    """

    config: Any

    def transform(self) -> Transform:
        """What is done to each sequence."""
        raise NotImplementedError(f"{type(self).__name__} must define transform.")

    def check(self) -> None:
        if not self._stored:
            self.rows.texts(self.config.text_field)

    @cached_property
    def sequences(self) -> Any:
        """The tokens of each sample without special ones: a text that `max_length` has no room for is several."""
        room = self._room
        if self._stored:
            store: Any = self.rows.rows
            return store if room is None else _Pieces(store, room)
        found: list[list[int]] = []
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            indices = range(start, min(start + ROWS_AT_ONCE, len(self.rows)))
            texts = [self.rows[i][self.config.text_field] for i in indices]
            for row in self.encode(texts, indices, add_special_tokens=False):
                step = room or len(row) or 1
                found += [row.ids[first : first + step] for first in range(0, len(row), step)]
        return found

    @property
    def _room(self) -> int | None:
        limit = self.max_length
        if limit is None:
            return None
        transform = self.transform()
        room = limit - len(getattr(transform, "begin", ())) - len(getattr(transform, "end", ()))
        if room < 1:
            raise OptionError(f"max_length is {limit}, which leaves no room for a text. Give a larger one.")
        return room

    @cached_property
    def _transformed(self) -> TransformedDataset:
        return TransformedDataset(self.sequences, self.transform(), self.config.seed)

    def set_epoch(self, epoch: int) -> None:
        """Makes the random choices of another epoch."""
        self._transformed.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._transformed)

    def __getitem__(self, index: int) -> Features:
        return self._transformed[index]

    @property
    def lengths(self) -> Sequence[int]:
        return self._transformed.lengths

    @property
    def _stored(self) -> bool:
        """Whether the samples are tokens already."""
        return isinstance(self.rows.rows, _Store)

    def _read(self, source: Any) -> Rows:
        if isinstance(source, IndexedDataset | DistributedIndexedDataset):
            return Rows(_Store(source))
        if isinstance(source, str | Path) and store_paths(source)[1].is_file():
            return Rows(_Store(IndexedDataset(source)))
        return super()._read(source)


class _Store(Sequence[Any]):
    """The sequences of a store, or the first of them."""

    def __init__(self, store: Any, count: int | None = None) -> None:
        self._store, self._count = store, len(store) if count is None else count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Store(self._store, len(range(*index.indices(self._count))))
        return self._store[index]

    @property
    def lengths(self) -> Any:
        """Length of each sequence, an array."""
        return self._store.lengths[: self._count]


class _Pieces:
    """A store whose sequences are cut into pieces of a length."""

    def __init__(self, store: _Store, room: int) -> None:
        self._numpy = numpy = require("numpy", extra="data")
        self._store, self._room = store, room
        self._sizes = numpy.asarray(store.lengths, dtype="i8")
        self._ends = numpy.cumsum(-(-self._sizes // room))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        number = int(self._ends.searchsorted(index, side="right"))
        first = int(index - (self._ends[number - 1] if number else 0)) * self._room
        return self._store[number][first : first + self._room]

    @property
    def lengths(self) -> Any:
        """Length of each piece, an array."""
        found = self._numpy.full(len(self), self._room)
        some = self._sizes > 0
        found[self._ends[some] - 1] = (self._sizes[some] - 1) % self._room + 1
        return found


@register_dataset("causal_language_modeling", CausalLanguageModelingConfig, "text predicted from what comes before")
class CausalLanguageModelingDataset(LanguageModelingDataset):
    """Features `token_ids` and `labels`; see `CausalTokens`."""

    config_class = CausalLanguageModelingConfig

    def transform(self) -> Transform:
        return CausalTokens.of(self.tokenizer)


@register_dataset("masked_language_modeling", MaskedLanguageModelingConfig, "text with masked tokens (BERT)")
class MaskedLanguageModelingDataset(LanguageModelingDataset):
    """Features `token_ids` and `labels`; see `TokenMasking`."""

    config_class = MaskedLanguageModelingConfig

    def transform(self) -> Transform:
        return TokenMasking.of(self.tokenizer, share=self.config.share)


@register_dataset("span_corruption", SpanCorruptionConfig, "text with spans behind sentinels (T5)")
class SpanCorruptionDataset(LanguageModelingDataset):
    """Features `token_ids` and `labels`; see `SpanCorruption`."""

    config_class = SpanCorruptionConfig

    def transform(self) -> Transform:
        return SpanCorruption.of(self.tokenizer, share=self.config.share, mean_span=self.config.mean_span)


@register_dataset("blank_infilling", BlankInfillingConfig, "text with blanks that are filled behind it (GLM)")
class BlankInfillingDataset(LanguageModelingDataset):
    """Features `token_ids`, `position_ids`, `sep` and `labels`; see `BlankInfilling`."""

    config_class = BlankInfillingConfig

    def transform(self) -> Transform:
        return BlankInfilling.of(self.tokenizer, share=self.config.share, kinds=self.config.kinds)


@register_dataset("hole_filling", HoleFillingConfig, "text with holes that are filled from both sides (CPM)")
class HoleFillingDataset(LanguageModelingDataset):
    """Features `token_ids`, `context` and `labels`; see `Holes`."""

    config_class = HoleFillingConfig

    def transform(self) -> Transform:
        return Holes(self.tokenizer.eos_token_id)

    @property
    def data_collator(self) -> Callable[[Sequence[Features]], dict[str, Tensor]]:
        """With a `max_length` rows are packed, as CPM's were; a text sees only itself by its `span`."""
        if self.max_length is None:
            return PadCollator.of(self.tokenizer)
        return PackCollator(self.max_length, self.tokenizer.padding_id)
