"""What the tasks share whose inputs come with choices of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, OptionError
from ..outputs import ClassifierOutput
from .scoring import ScoringTask
from .text import LongText, TextBatch, TextInput, own_batch

__all__ = ["Choice", "ChoiceInput", "ChoiceTask", "each_choice_a_row"]


class Choice(TypedDict):
    """The choice that fits best.

    Attributes:
        choice: As it was given.
        index: Its number among the choices.
        score: Its probability; of a single choice, that it is right.
        scores: The probabilities of all choices, in the order they were given.
    """

    choice: str
    index: int
    score: float
    scores: list[float]


@dataclass
class ChoiceInput(TextInput):
    """One input with its choices.

    Attributes:
        choices: As they were given.
    """

    choices: list[str]


class ChoiceTask(ScoringTask):
    """Base of tasks that choose. An input is `{"text": ..., "choices": [...]}`, or a text when `choices` are an option.

    Each choice may have a row of its own in the tensors, or they are columns of one.
    """

    long_text_modes = ("truncate", "error")

    def read_choices(self, inputs: Any, choices: Sequence[str] | None) -> tuple[list[str], list[list[str]]]:
        """The texts of inputs, and their choices.

        Args:
            inputs: One input or several.
            choices: Of inputs that have none.

        Raises:
            InputError: For an input that is none; names its index.
            OptionError: When `choices` are none.
        """
        if choices is not None and not _are_choices(choices):
            raise OptionError(f"choices is {choices!r:.100}; it must be a list of texts.")
        texts, own = [], []
        for index, item in enumerate([inputs] if self.is_one_input(inputs) else inputs):
            given = item if isinstance(item, Mapping) else {"text": item}
            text, options = given.get("text"), given.get("choices", choices)
            if not isinstance(text, str) or options is None or not _are_choices(options):
                raise InputError(
                    'must be {"text": a text, "choices": a list of texts}, or a text with choices=.', index
                )
            others = sorted(str(key) for key in given.keys() - {"text", "choices"})
            if others:
                raise InputError(f"has {others[0]!r:.100}; only 'text' and 'choices' are read here.", index)
            texts.append(text)
            own.append(list(options))
        return texts, own

    def rows_of_choices(
        self, rows: Sequence[Any], choices: list[list[str]], long_text: LongText | None, max_length: int | None
    ) -> list[list[TextInput]]:
        """Tokenizes the rows of all inputs, one for each choice.

        Args:
            rows: Texts, or pairs of texts: for the first input one for each of its choices, then for the second, ...
            choices: Of each input.
            long_text: See `preprocess`.
            max_length: See `preprocess`.

        Returns:
            For each input its rows.
        """
        owners = [index for index, own in enumerate(choices) for _ in own]
        try:
            batch = super().preprocess(list(rows), long_text=long_text, max_length=max_length)
        except InputError as error:
            error.index = None if error.index is None else owners[error.index]
            raise
        prepared = iter(batch.inputs)
        return [[next(prepared) for _ in own] for own in choices]

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of the choices; with a single one, the binary one of its being right. A scalar.

        Args:
            logits: [batch, choices].
            labels: [batch] int64, the number of the right choice; of a single one, 1 or 0.
        """
        if logits.size(1) == 1:
            return F.binary_cross_entropy_with_logits(logits[:, 0].float(), labels.flatten().float())
        return F.cross_entropy(logits.float(), labels)

    def post_process(self, outputs: ClassifierOutput, batch: TextBatch) -> list[Choice]:  # type: ignore[override]
        """Scores to the best choice of each input."""
        results = []
        for item, rows in zip(own_batch(batch).inputs, own_batch(batch).rows, strict=True):
            assert isinstance(item, ChoiceInput)
            logits = outputs.logits[rows].flatten()[: len(item.choices)].float()
            scores = (logits.softmax(0) if len(logits) > 1 else logits.sigmoid()).tolist()
            best = max(range(len(scores)), key=scores.__getitem__)
            results.append(Choice(choice=item.choices[best], index=best, score=scores[best], scores=scores))
        return results


def each_choice_a_row(inputs: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Inputs of a backbone whose tensors have one row for each choice.

    Args:
        inputs: By name; tensors that are [batch, choices, ...] become [batch * choices, ...].
        shape: Batch and choices.
    """

    def flat(name: str, value: Any) -> Any:
        grouped = isinstance(value, Tensor) and value.shape[:2] == shape and name != "head_mask"
        return value.flatten(0, 1) if grouped else value

    return {name: flat(name, value) for name, value in inputs.items()}


def _are_choices(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(choice, str) for choice in value)
