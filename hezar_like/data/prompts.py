"""Samples as texts with a blank, and the words that could fill it: one for each label, or the sample's own choices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import text_files
from ..errors import ConfigError, DataError, did_you_mean
from ..registry import register_dataset
from .dataset import TextConfig, TextDataset
from .prompt_styles import STYLES
from .row_files import Rows
from .transforms import Features

__all__ = ["Prompt", "PromptDataset", "PromptDatasetConfig", "answer_scores", "read_templates"]

FOLDER = Path(__file__).parent / "templates"
FIELD = re.compile(r"\{([\w.|]+)\}")
BLANK = "blank"


@dataclass(frozen=True)
class Prompt:
    """A sample in words.

    Attributes:
        text: The text; `{blank}` stands where the answer belongs, where it does not follow the text.
        text_pair: The second text of styles that classify pairs; else None.
        choices: What could be the answer.
        label: The index of the one that is.
    """

    text: str
    text_pair: str | None
    choices: list[str]
    label: int


@dataclass(kw_only=True)
class PromptDatasetConfig(TextConfig):
    """Samples as texts with a blank."""

    name = "prompt"
    template: str = "boolq"
    """Name of a template, such as boolq or lcqmc; or of one in a YAML file of one's own, as in my.yaml:name."""
    style: str = "t5"
    """What kind of model fills the blank: bert, pair, gpt, t5, cpm1, cpm2 or glm; see the template for those it has."""


def read_templates(path: Path | None = None) -> dict[str, Any]:
    """The templates of a YAML file; default: those of this package.

    Raises:
        ConfigError: When the file cannot be read.
    """
    paths = sorted(FOLDER.glob("*.yaml")) if path is None else [path]
    return {name: template for one in paths for name, template in text_files.read_yaml(one).items()}


def answer_scores(logits: Tensor, labels: Tensor, answer_ids: Sequence[int], *, shifts_labels: bool) -> Tensor:
    """The scores of the words of a verbaliser, where the answer is read.

    Args:
        logits: [batch, length, vocabulary].
        labels: As the dataset gives them, [batch, length]: each row has one that is not -100.
        answer_ids: See `PromptDataset.answer_ids`.
        shifts_labels: Whether labels are predicted from the token before, as the backbone says.

    Returns:
        [batch, labels].
    """
    places = (labels != -100).long().argmax(1) - int(shifts_labels)
    return logits[torch.arange(len(logits), device=logits.device), places][:, list(answer_ids)]


@register_dataset("prompt", PromptDatasetConfig, "samples as texts with a blank, and words for the labels")
class PromptDataset(TextDataset):
    """Features by style: `token_ids`, `labels`, and `decoder_input_ids`, `context`, or `position_ids` and `sep`.

    But for the styles "pair", whose labels are classes, and "glm", whose labels are the whole answer, each sample has
    just one label that is not -100: the first token of the word for the right answer; see `answer_scores`.

    Attributes:
        prompts: The samples in words. For a `cloze` model, `{"text": ..., "choices": ...}` is made of them.
        id2label: Name of each label by its number.
    """

    config: PromptDatasetConfig
    config_class = PromptDatasetConfig

    def check(self) -> None:
        self._template = self._find()
        self._style = self._template["styles"][self.config.style]
        if "each" in self._template:
            self.rows = _each(self.rows, self._template["each"].split("."))
        names = list(map(str, self._template["labels"]))
        self.id2label = dict(enumerate(names))
        self.prompts = [self._prompt(index, names) for index in range(len(self.rows))]

    @cached_property
    def answer_ids(self) -> list[int]:
        """The first token of the word for each label.

        Raises:
            ConfigError: When two words begin with the same token, so that they cannot be told apart, or one has none.
        """
        words = list(self._style.get("words", ()))
        if not words:
            raise ConfigError(f"template {self.config.template!r}: its style {self.config.style!r} has no words.")
        found = [row.ids[:1] for row in self.tokenizer.encode_texts(words, add_special_tokens=False)]
        tokens = [ids[0] for ids in found if ids]
        if len(set(tokens)) < len(words):
            raise ConfigError(
                f"template {self.config.template!r}: the words {', '.join(map(repr, words))} do not begin with "
                "different tokens of this tokenizer. Use other words, or another style."
            )
        return tokens

    def features(self, indices: range) -> list[Features]:
        style = STYLES[self.config.style]
        prompts = [self.prompts[index] for index in indices]
        made = style(self, prompts, indices)
        for index, sample in zip(indices, made, strict=True):
            if sample is None:
                raise DataError(
                    f"{self.rows.where(index)}: its blank is not among the {self.max_length} tokens that are read. "
                    "Give a larger max_length, or a shorter text."
                )
        return [sample for sample in made if sample is not None]

    def _find(self) -> Mapping[str, Any]:
        file, colon, name = self.config.template.rpartition(":")
        templates = read_templates(Path(file) if colon else None)
        if name not in templates:
            raise ConfigError(f"there is no template {name!r}.{did_you_mean(name, templates, listing=30)}")
        template = templates[name]
        styles = template.get("styles") if isinstance(template, Mapping) else None
        if not isinstance(styles, Mapping) or "labels" not in template:
            raise ConfigError(f"template {name!r}: must have `labels` and `styles`.")
        if self.config.style not in styles:
            raise ConfigError(
                f"template {name!r} has no style {self.config.style!r}.{did_you_mean(self.config.style, styles)}"
            )
        if self.config.style not in STYLES:
            raise ConfigError(f"there is no style {self.config.style!r}.{did_you_mean(self.config.style, STYLES)}")
        return dict(template)

    def _prompt(self, index: int, names: list[str]) -> Prompt:
        style = self._style
        pair = style.get("pair")
        choices = style.get("choices", style.get("words", names))
        return Prompt(
            self._filled(style["text"], index),
            None if pair is None else self._filled(pair, index),
            [self._filled(str(choice), index) for choice in choices],
            self._label(index, names),
        )

    def _filled(self, text: str, index: int) -> str:
        """The text with values in the place of fields: {name}, {outer.inner}, {name|other name}."""

        def value(match: re.Match[str]) -> str:
            if match[1] == BLANK:
                return match[0]
            found = self._look_up(match[1], index)
            words = self._style.get("values", {}).get(match[1], {})
            return str(words.get(str(found), found))

        return FIELD.sub(value, text)

    def _look_up(self, names: str, index: int) -> Any:
        """The value of the first of some fields that the row has."""
        for name in names.split("|"):
            found: Any = self.rows[index]
            for part in name.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
            if found is not None:
                return found
        raise DataError(
            f"{self.rows.where(index)}: has no {names!r}, which the template {self.config.template!r} needs."
            f"{did_you_mean(names, map(str, self.rows[index]))}"
        )

    def _label(self, index: int, names: list[str]) -> int:
        field = self._template.get("label_field", "label")
        value = self._look_up(field, index)
        known = self.rows.names.get(field)
        if known is not None and isinstance(value, int) and 0 <= value < len(known):
            value = known[value]
        shown = str(value).lower()
        if shown in names:
            return names.index(shown)
        if shown.isdecimal() and int(shown) < len(names):
            return int(shown)
        raise DataError(f"{self.rows.where(index)}: there is no label {str(value)!r:.80}.{did_you_mean(value, names)}")


def _each(rows: Rows, path: Sequence[str]) -> Rows:
    """A row for each thing in the lists along a path; in it, each list is replaced by the one thing."""

    def unfolded(value: Any, left: Sequence[str]) -> Iterator[Any]:
        if isinstance(value, list | tuple):
            for one in value:
                yield from unfolded(one, left)
        elif left and isinstance(value, Mapping) and left[0] in value:
            for one in unfolded(value[left[0]], left[1:]):
                yield {**value, left[0]: one}
        else:
            yield value

    found = [(index, one) for index in range(len(rows)) for one in unfolded(rows[index], path)]
    return Rows([one for _, one in found], _RowOf(rows.where, [index for index, _ in found]), rows.names)


class _RowOf:
    """Says where a row was made from."""

    def __init__(self, where: Callable[[int], str], indices: Sequence[int]) -> None:
        self._where, self._indices = where, indices

    def __call__(self, index: int) -> str:
        return self._where(self._indices[index])
