"""One of several answers to a question, each input with answers of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..configs import ModelConfig
from ..outputs import BackboneOutput, ClassifierOutput
from .choices import ChoiceInput, ChoiceTask, each_choice_a_row
from .task import register_task
from .text import LongText, TextBatch


@register_task(
    "multiple_choice",
    ModelConfig,
    "the best of an input's own choices",
    endings=("ForMultipleChoice",),
    pipeline_tag="multiple-choice",
)
class MultipleChoice(ChoiceTask):
    """Scores each choice by itself, as the second text of a pair, and takes the best."""

    def forward(self, *, labels: Tensor | None = None, **inputs: Any) -> ClassifierOutput:
        """Scores.

        Args:
            labels: See `compute_loss`; then the output has a loss.
            **inputs: See the backbone's `forward`; tensors have a dimension for the choices after the batch's:
                `token_ids` is [batch, choices, length]. Without it, every row is an input with a single choice.

        Returns:
            Logits [batch, choices]; all else has one row for each choice.
        """
        tokens, vectors = inputs.get("token_ids"), inputs.get("inputs_embeds")
        first = tokens if tokens is not None else vectors
        if first is None or first.ndim == (2 if tokens is not None else 3):
            return self.read_out(self.backbone(**inputs), inputs, labels)
        shape = tuple(first.shape[:2])
        rows = each_choice_a_row(inputs, shape)
        output = self.read_out(self.backbone(**rows), rows, None)
        output.logits = output.logits.view(shape)
        if labels is not None:
            output.loss = self.compute_loss(output.logits, labels)
        return output

    def states(self, output: BackboneOutput, inputs: Mapping[str, Any]) -> Tensor:
        """The token that sums up each row, [rows, 1, width]."""
        return self.backbone.summarize(output.last_hidden_state, inputs)

    def preprocess(  # type: ignore[override]  # there are no windows to overlap
        self,
        inputs: Any,
        *,
        choices: Sequence[str] | None = None,
        long_text: LongText | None = None,
        max_length: int | None = None,
    ) -> TextBatch:
        """Texts and choices to tokens: a row for each choice, and in it the text, then the choice.

        Args:
            inputs: `{"text": ..., "choices": [...]}`, or a list of these.
            choices: Those of inputs that are only a text.
            long_text: What happens to longer rows: "truncate" them with a warning, or raise an "error".
            max_length: The most tokens of one row; default, and upper end: what the model reads.

        Raises:
            PreprocessorError: When the model has no tokenizer.
            InputError: For an input that is none, or is too long with `long_text="error"`.
            OptionError: For a wrong value of an option.
        """
        texts, own = self.read_choices(inputs, choices)
        pairs = [(text, choice) for text, options in zip(texts, own, strict=True) for choice in options]
        grouped = self.rows_of_choices(pairs, own, long_text, max_length)
        items = [
            ChoiceInput(text, None, rows[0].encoded, [window for row in rows for window in row.windows], options)
            for text, options, rows in zip(texts, own, grouped, strict=True)
        ]
        return TextBatch(items, self._tokenizer(), self.backbone.token_types > 1, self.padding_side)
