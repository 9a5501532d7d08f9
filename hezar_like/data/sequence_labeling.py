"""Sentences with a label for each word."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError
from ..registry import register_dataset
from .dataset import TextConfig, TextDataset, logger
from .labels import Labels
from .transforms import IGNORED, Features

__all__ = ["SequenceLabelingDataset", "SequenceLabelingDatasetConfig"]


@dataclass(kw_only=True)
class SequenceLabelingDatasetConfig(TextConfig):
    """Sentences with a label for each word."""

    name = "sequence_labeling"
    tokens_field: str = "tokens"
    """Column of the lists of words."""
    tags_field: str = "tags"
    """Column of the lists of labels: names or numbers. CoNLL-U files have `upos`, `xpos`, `deprel`, ..."""
    id2label: dict[int, str] | None = None
    """Name of each label by its number; default: what the source says, or the labels that occur, sorted."""
    label_all_tokens: bool = False
    """Whether all tokens of a word have its label, or only the first."""
    is_iob_schema: bool = False
    """Whether, with `label_all_tokens`, further tokens of a word labelled B-x are labelled I-x."""
    ignore_index: int = IGNORED
    """Label of tokens that do not count."""


@register_dataset("sequence_labeling", SequenceLabelingDatasetConfig, "sentences with a label for each word")
class SequenceLabelingDataset(TextDataset):
    """Features `token_ids` and `labels`.

    Attributes:
        id2label: Name of each label by its number, for the config of the model.
    """

    config: SequenceLabelingDatasetConfig
    config_class = SequenceLabelingDatasetConfig
    _lost_words = 0

    def check(self) -> None:
        config, rows = self.config, self.rows
        words_of, tags_of = rows.values(config.tokens_field), rows.values(config.tags_field)
        for index, (words, tags) in enumerate(zip(words_of, tags_of, strict=True)):
            for field, value in ((config.tokens_field, words), (config.tags_field, tags)):
                rows.check_list(index, field, value)
            if len(words) != len(tags):
                raise DataError(f"{rows.where(index)}: has {len(words)} words, but {len(tags)} labels. Mend the row.")
            if not words:
                raise DataError(f"{rows.where(index)}: has no words. Remove the row.")
        labels = Labels.of(
            config.id2label, rows.names.get(config.tags_field), (tag for tags in tags_of for tag in tags)
        )
        self.id2label = labels.id2label
        self._tags = [[labels.number(tag, rows.where(i)) for tag in tags] for i, tags in enumerate(tags_of)]
        self._inside = {
            number: labels.label2id.get("I-" + name[2:], number)
            for number, name in self.id2label.items()
            if name.startswith("B-")
        }

    def features(self, indices: range) -> list[Features]:
        words = [list(self.rows[index][self.config.tokens_field]) for index in indices]
        result = []
        for index, row in zip(indices, self.encode(words, indices, is_split_into_words=True), strict=True):
            cut = self.cut(row, self.max_length)
            tags = self._tags[index]
            labels, before = [], None
            for word in cut.word_ids:
                labels.append(self._label(tags, word, word == before))
                before = word
            self._lost_words += len(tags) - len({word for word in cut.word_ids if word is not None})
            result.append({"token_ids": cut.ids, "labels": labels})
        return result

    def tell(self) -> None:
        if self._lost_words:
            logger.warning(
                f"{self._lost_words} words of the dataset {self.config.name!r} have no token: {self._cut_rows} "
                f"sentences are longer than {self.max_length} tokens, or the tokenizer leaves words out. Give a larger "
                "max_length to keep what was cut."
            )

    def _label(self, tags: list[int], word: int | None, again: bool) -> int:
        if word is None or (again and not self.config.label_all_tokens):
            return self.config.ignore_index
        label = tags[word]
        return self._inside.get(label, label) if again and self.config.is_iob_schema else label
