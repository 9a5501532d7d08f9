"""Pairs of texts, and how similar they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..registry import register_dataset
from .collators import PadCollator
from .dataset import TextConfig, TextDataset
from .transforms import Features

__all__ = ["TextSimilarityDataset", "TextSimilarityDatasetConfig"]


@dataclass(kw_only=True)
class TextSimilarityDatasetConfig(TextConfig):
    """Pairs of texts with scores."""

    name = "text_similarity"
    text_field: str = "text"
    """Column of the first texts."""
    text_pair_field: str = "text_pair"
    """Column of the second texts."""
    score_field: str = "score"
    """Column of the numbers that say how similar they are."""


@register_dataset("text_similarity", TextSimilarityDatasetConfig, "pairs of texts, and how similar they are")
class TextSimilarityDataset(TextDataset):
    """Features `token_ids`, `pair_token_ids` and `labels`. In a batch a pair is two rows, one below the other."""

    config: TextSimilarityDatasetConfig
    config_class = TextSimilarityDatasetConfig

    def check(self) -> None:
        for field in (self.config.text_field, self.config.text_pair_field):
            self.rows.texts(field)
        self._scores = self.rows.numbers(self.config.score_field)

    def features(self, indices: range) -> list[Features]:
        columns = []
        for field in (self.config.text_field, self.config.text_pair_field):
            rows = self.encode([self.rows[i][field] for i in indices], indices)
            columns.append([self.cut(row, self.max_length).ids for row in rows])
        scores = (self._scores[i] for i in indices)
        return [
            {"token_ids": first, "pair_token_ids": second, "labels": score}
            for first, second, score in zip(*columns, scores, strict=True)
        ]

    @property
    def lengths(self) -> Sequence[int]:
        return [max(len(sample["token_ids"]), len(sample["pair_token_ids"])) for sample in self._all]

    @property
    def data_collator(self) -> Callable[[Sequence[Features]], dict[str, Tensor]]:
        return partial(_paired, PadCollator.of(self.tokenizer))


def _paired(collator: PadCollator, features: Sequence[Features]) -> dict[str, Tensor]:
    """A batch of rows [2 pairs, length], and of labels [pairs]."""
    rows = [{"token_ids": sample[name]} for sample in features for name in ("token_ids", "pair_token_ids")]
    return {**collator(rows), "labels": torch.tensor([sample["labels"] for sample in features])}
