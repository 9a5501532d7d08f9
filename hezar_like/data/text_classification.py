"""Texts, or pairs of texts, with a label, several labels or a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DataError
from ..registry import register_dataset
from .dataset import TextConfig, TextDataset
from .labels import Labels
from .transforms import Features

__all__ = ["TextClassificationDataset", "TextClassificationDatasetConfig"]


@dataclass(kw_only=True)
class TextClassificationDatasetConfig(TextConfig):
    """Texts with labels."""

    name = "text_classification"
    text_field: str = "text"
    """Column of the texts."""
    text_pair_field: str | None = None
    """Column of the second texts, where pairs are classified."""
    label_field: str = "label"
    """Column of the labels: names or numbers, or lists of them, or values to be predicted."""
    id2label: dict[int, str] | None = None
    """Name of each label by its number; default: what the source says, or the labels that occur, sorted."""
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] = (
        "single_label_classification"
    )
    """Whether a text has one label, a list of labels, or a number."""


@register_dataset("text_classification", TextClassificationDatasetConfig, "texts or pairs of texts with labels")
class TextClassificationDataset(TextDataset):
    """Features `token_ids`, `token_type_ids` for pairs, and `labels`.

    Attributes:
        id2label: Name of each label by its number, for the config of the model.
    """

    config: TextClassificationDatasetConfig
    config_class = TextClassificationDatasetConfig

    def check(self) -> None:
        config, rows = self.config, self.rows
        for field in (config.text_field, config.text_pair_field):
            if field is not None:
                rows.texts(field)
        if config.problem_type == "regression":
            self.id2label = {0: config.label_field}
            self._labels: list[Any] = rows.numbers(config.label_field)
            return
        values = rows.values(config.label_field)
        several = config.problem_type == "multi_label_classification"
        for index, value in enumerate(values):
            if isinstance(value, list | tuple) != several:
                wanted = "a list of labels" if several else "one label"
                raise DataError(
                    f"{rows.where(index)}: {config.label_field!r} is {value!r:.80}, but must be {wanted}. Change "
                    "problem_type, or the row."
                )
        flat = [label for value in values for label in (value if several else [value])]
        labels = Labels.of(config.id2label, rows.names.get(config.label_field), flat)
        self.id2label = labels.id2label
        self._labels = []
        for index, value in enumerate(values):
            where = rows.where(index)
            if several:
                own = {labels.number(label, where) for label in value}
                self._labels.append([float(number in own) for number in sorted(self.id2label)])
            else:
                self._labels.append(labels.number(value, where))

    def features(self, indices: range) -> list[Features]:
        config, rows = self.config, self.rows
        pair = config.text_pair_field
        texts: list[Any] = [
            rows[i][config.text_field] if pair is None else (rows[i][config.text_field], rows[i][pair]) for i in indices
        ]
        result = []
        for index, row in zip(indices, self.encode(texts, indices), strict=True):
            cut = self.cut(row, self.max_length)
            types = {} if pair is None else {"token_type_ids": cut.type_ids}
            result.append({"token_ids": cut.ids, **types, "labels": self._labels[index]})
        return result
