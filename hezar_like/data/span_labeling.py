"""Texts with labelled spans, which may overlap and nest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..entities import default_entities
from ..errors import DataError
from ..registry import register_dataset
from .collators import PadCollator
from .dataset import TextConfig, TextDataset, logger
from .labels import Labels
from .transforms import Features

if TYPE_CHECKING:
    from ..preprocessors.encoded import Encoded

__all__ = ["SpanLabelingDataset", "SpanLabelingDatasetConfig"]

Span = tuple[int, int, Any]
"""The first letter or word, one past the last, and the label."""


@dataclass(kw_only=True)
class SpanLabelingDatasetConfig(TextConfig):
    """Texts with labelled spans, for GlobalPointer."""

    name = "span_labeling"
    text_field: str = "text"
    """Column of the texts; of rows with `tokens_field` nothing is read there."""
    spans_field: str = "spans"
    """Column of the lists of spans, each with `start`, `end` (one past the last) and `label`, in letters or words."""
    tokens_field: str = "tokens"
    """Column of lists of words, in rows that have such."""
    tags_field: str = "tags"
    """Column of labels of the words, B-x, I-x and so on, in rows without spans."""
    id2label: dict[int, str] | None = None
    """Name of each label by its number; default: the labels that occur, sorted."""


@register_dataset("span_labeling", SpanLabelingDatasetConfig, "texts with labelled spans, which may nest")
class SpanLabelingDataset(TextDataset):
    """Features `token_ids` and `spans`: first token, last token, label. In a batch these are `labels`.

    Attributes:
        id2label: Name of each label by its number, for the config of the model.
    """

    config: SpanLabelingDatasetConfig
    config_class = SpanLabelingDatasetConfig
    _lost_spans = 0

    def check(self) -> None:
        spans = [self._spans_of(index) for index in range(len(self.rows))]
        labels = Labels.of(self.config.id2label, None, (label for row in spans for _, _, label in row))
        self.id2label = labels.id2label
        if not self.id2label:
            raise DataError("no row has a span, so that there are no labels. Give id2label, or other rows.")
        self._spans = [
            [(start, end, labels.number(label, self.rows.where(index))) for start, end, label in row]
            for index, row in enumerate(spans)
        ]

    def features(self, indices: range) -> list[Features]:
        sources = [self._source(index) for index in indices]
        split = isinstance(sources[0], list)
        if not split and getattr(self.preprocessor, "text_normalizer", None) is not None:
            raise DataError("a text normalizer moves the letters that spans count. Give words, or none of it.")
        made = []
        for index, row in zip(indices, self.encode(sources, indices, is_split_into_words=split), strict=True):
            cut = self.cut(row, self.max_length)
            found = [place for span in self._spans[index] if (place := _place(cut, span, split)) is not None]
            self._lost_spans += len(self._spans[index]) - len(found)
            made.append({"token_ids": cut.ids, "spans": found})
        return made

    def tell(self) -> None:
        super().tell()
        if self._lost_spans:
            logger.warning(
                f"{self._lost_spans} spans of the dataset {self.config.name!r} lack tokens and do not count."
            )

    @property
    def data_collator(self) -> Callable[[Sequence[Features]], dict[str, Tensor]]:
        return partial(_with_spans, PadCollator.of(self.tokenizer), len(self.id2label))

    def _source(self, index: int) -> Any:
        row, config = self.rows[index], self.config
        found = row.get(config.tokens_field)
        if found is None:
            text = self.rows.value(index, config.text_field)
            if not isinstance(text, str):
                kind = type(text).__name__
                raise DataError(f"{self.rows.where(index)}: {config.text_field!r} is {kind}, but must be a text.")
            return text
        self.rows.check_list(index, config.tokens_field, found)
        return list(found)

    def _spans_of(self, index: int) -> list[Span]:
        config, rows, source = self.config, self.rows, self._source(index)
        where, row = rows.where(index), rows[index]
        if isinstance(source, str) is isinstance(self._source(0), list):
            raise DataError(f"{where}: some rows have a text, and others words. Give one of both in all.")
        tags = row.get(config.tags_field)
        if row.get(config.spans_field) is None and tags is not None and not isinstance(source, str):
            rows.check_list(index, config.tags_field, tags)
            if len(tags) != len(source):
                raise DataError(f"{where}: has {len(source)} words, but {len(tags)} labels. Mend the row.")
            names = rows.names.get(config.tags_field)
            named = [str(tag) if names is None or isinstance(tag, str) else names[tag] for tag in tags]
            return [(start, end, kind) for kind, start, end in default_entities(named)]
        spans = rows.value(index, config.spans_field)
        rows.check_list(index, config.spans_field, spans)
        return [_checked(span, source, where) for span in spans]


def _checked(span: Any, source: Sequence[Any], where: str) -> Span:
    """A span of a row, without spaces at its ends."""
    values: list[Any] = [span.get(name) for name in ("start", "end", "label")] if isinstance(span, Mapping) else []
    if len(values) != 3 or values[2] is None or not all(type(value) is int for value in values[:2]):
        raise DataError(f"{where}: {span!r:.80} is no span. Give start, end and label.")
    start, end, label = values
    if not 0 <= start < end <= len(source):
        raise DataError(f"{where}: the span {start} to {end} is not in the text of length {len(source)}.")
    if isinstance(source, str) and (inner := source[start:end].strip()):
        start += source[start:end].index(inner)
        end = start + len(inner)
    return start, end, label


def _place(row: Encoded, span: Span, split: bool) -> list[int] | None:
    """First and last token and label of a span; None where a token of it is not there."""
    start, end, label = span
    first = last = None
    for place in row.content:
        at = (row.word_ids[place] or 0) if split else 0
        begin, stop = (at, at + 1) if split else row.offsets[place]
        if begin <= start < stop and first is None:
            first = place
        if begin < end <= stop:
            last = place
    return None if first is None or last is None else [first, last, label]


def _with_spans(collator: PadCollator, count: int, features: Sequence[Features]) -> dict[str, Tensor]:
    """A batch with `labels` [batch, labels, length, length] bool: True for the first and the last token of a span."""
    batch = collator([{"token_ids": sample["token_ids"]} for sample in features])
    length = batch["token_ids"].size(1)
    labels = torch.zeros(len(features), count, length, length, dtype=torch.bool)
    for number, sample in enumerate(features):
        before = length - len(sample["token_ids"]) if collator.side == "left" else 0
        for first, last, label in sample["spans"]:
            labels[number, label, before + first, before + last] = True
    return {**batch, "labels": labels}
