"""The best of some texts for a blank, by how probable a language model finds them (Schick and Schütze, 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, cast

import torch
from torch import Tensor

from ..configs import ModelConfig
from ..engine.routing import names_of_parameters
from ..errors import InputError, OptionError, PreprocessorError
from ..fields import Between
from ..layers.blanks import Blanks, piece_positions
from ..outputs import BackboneOutput, ClassifierOutput
from .choices import ChoiceInput, ChoiceTask, each_choice_a_row
from .task import register_task
from .text import LongText, TextBatch

FOR_BOTH_PASSES = ("head_mask", "output_attentions", "output_hidden_states")


@dataclass(kw_only=True)
class ClozeConfig(ModelConfig):
    """Cloze tests."""

    aliases = {"take_softmax": "log_probabilities"}
    log_probabilities: bool = True
    """Whether tokens count by the logarithm of their probability in the vocabulary, or by their raw score."""
    choice_length_penalty: Annotated[float, Between(0, 10)] = 0.0
    """Scores of choices are divided by their number of tokens to the power of this."""


@dataclass
class ClozeInput(ChoiceInput):
    """One input with its choices.

    Attributes:
        answers: The tokens of each choice.
        place: The index of the blank, where choices are written behind the text; None where they stand in the blank.
    """

    answers: list[list[int]]
    place: int | None


class ClozeBatch(TextBatch):
    """Texts and choices: what `Cloze.forward` takes."""

    blanks: Blanks | None = None
    """How choices are written behind the texts, where they are."""

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Those of `TextBatch`, with `target_ids`, `logit_mask`, and maybe `choice_ids` and `choice_position_ids`."""
        tensors = super().tensors
        return tensors | (self._in_blanks(tensors) if self.blanks is None else self._behind_texts(tensors, self.blanks))

    def select(self, inputs: Sequence[int]) -> ClozeBatch:
        batch = super().select(inputs)
        batch.blanks = self.blanks
        return batch

    def _in_blanks(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        blank = torch.eq(tensors["token_ids"], self._tokenizer.mask_token_id or 0)
        answers = [token for item in self._items for answer in item.answers for token in answer]
        targets = torch.zeros_like(tensors["token_ids"]).masked_scatter(blank, torch.tensor(answers))
        return {"target_ids": targets, "logit_mask": blank.float()}

    def _behind_texts(self, tensors: dict[str, Tensor], blanks: Blanks) -> dict[str, Tensor]:
        count = max(len(item.answers) for item in self._items)
        length = max(len(answer) for item in self._items for answer in item.answers)
        shape = (len(self._items), count, length)
        choices, targets, counted = torch.full(shape, blanks.end), torch.zeros(shape).long(), torch.zeros(shape)
        for row, item in enumerate(self._items):
            for column, answer in enumerate(item.answers):
                choices[row, column, : len(answer)] = torch.tensor([blanks.start, *answer[:-1]])
                targets[row, column, : len(answer)] = torch.tensor(answer)
                counted[row, column, : len(answer)] = 1.0
        places = piece_positions(torch.tensor([item.place for item in self._items]), 1, length)
        return {
            "attention_mask": tensors["attention_mask"] * ~blanks.unread(tensors["token_ids"]),
            "choice_ids": choices,
            "choice_position_ids": places[:, None].expand(-1, count, -1, -1),
            "target_ids": targets,
            "logit_mask": counted,
        }

    @property
    def _items(self) -> list[ClozeInput]:
        return cast("list[ClozeInput]", self.inputs)


@register_task("cloze", ClozeConfig, "the best of some texts for a blank", pipeline_tag="multiple-choice")
class Cloze(ChoiceTask):
    """Scores what could stand in a blank by its tokens: in the blank, or, where the model does so, behind the text."""

    config: ClozeConfig

    def forward(
        self,
        *,
        target_ids: Tensor | None = None,
        logit_mask: Tensor | None = None,
        target_positions: Tensor | None = None,
        choice_ids: Tensor | None = None,
        choice_position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **inputs: Any,
    ) -> ClassifierOutput:
        """Scores choices in one of three forms; without `target_ids`, the tokens of the vocabulary.

        Args:
            target_ids: The tokens of each choice, where they are predicted: of the shape of `token_ids`, or of
                `choice_ids` when they are given, or with `target_positions` one for each choice, [batch, choices].
            logit_mask: Which of them count, and how much; of the same shape. Not with `target_positions`.
            target_positions: Where each input is read, [batch] int64, when all choices are single tokens.
            choice_ids: What is read after the text for each choice, [batch, choices, length] int64: then the text,
                which is an input of its own, is read once.
            choice_position_ids: The `position_ids` of `choice_ids`, with a dimension for the choices after the batch's.
            labels: See `compute_loss`; then the output has a loss.
            **inputs: See the backbone's `forward`. With neither `choice_ids` nor `target_positions`, tensors have a
                dimension for the choices after the batch's: `token_ids` is [batch, choices, length]; without it, every
                row is an input with a single choice.

        Returns:
            Logits [batch, choices]; all else has one row for each choice that was read.

        Raises:
            OptionError: For inputs that do not belong together.
        """
        others = (logit_mask, target_positions, choice_ids, choice_position_ids, labels)
        if target_ids is None:
            if any(value is not None for value in others):
                raise OptionError("give target_ids too: they say what the choices are.")
            return self.read_out(self.backbone(**inputs), inputs, None)
        if choice_ids is None and choice_position_ids is not None:
            raise OptionError("give choice_ids with choice_position_ids.")
        if target_positions is not None:
            if logit_mask is not None or choice_ids is not None:
                raise OptionError("give target_positions, or logit_mask and maybe choice_ids, not both.")
            output = self.backbone(**inputs)
            rows = torch.arange(len(target_positions), device=target_positions.device)
            logits = self._of_tokens(output.last_hidden_state[rows, target_positions], target_ids)
        else:
            if logit_mask is None or logit_mask.shape != target_ids.shape:
                raise OptionError("give logit_mask with target_ids, in the same shape: 1 where a token counts.")
            shape = target_ids.shape[:2] if target_ids.ndim == 3 else (len(target_ids), 1)
            if choice_ids is not None:
                output = self._after_texts(choice_ids, choice_position_ids, inputs)
            else:
                output = self.backbone(**(each_choice_a_row(inputs, shape) if target_ids.ndim == 3 else inputs))
            length = target_ids.size(-1)
            logits = self._of_choices(
                output.last_hidden_state, target_ids.reshape(-1, length), logit_mask.reshape(-1, length)
            ).view(shape)
        return ClassifierOutput.of(output, logits, None if labels is None else self.compute_loss(logits, labels))

    def preprocess(  # type: ignore[override]  # there are no windows to overlap
        self,
        inputs: Any,
        *,
        choices: Sequence[str] | None = None,
        long_text: LongText | None = None,
        max_length: int | None = None,
    ) -> ClozeBatch:
        """Texts and choices to tokens.

        Args:
            inputs: `{"text": a text with a blank, "choices": [...]}`, or a list of these.
            choices: Those of inputs that are only a text.
            long_text: What happens to longer texts: "truncate" them with a warning, or raise an "error".
            max_length: The most tokens of one row; default, and upper end: what the model reads.

        Raises:
            PreprocessorError: When the model has no tokenizer, or that has no blank.
            InputError: For an input that is none, or is too long with `long_text="error"`.
            OptionError: For a wrong value of an option.
        """
        texts, own = self.read_choices(inputs, choices)
        answers, blanks = self._answers(own), self.backbone.blanks
        if blanks is None:
            items = self._read_in_blanks(texts, own, answers, long_text, max_length)
        else:
            answers = [[[*answer, blanks.end] for answer in options] for options in answers]
            self._check_lengths(answers)
            batch = super().preprocess(texts, long_text=long_text, max_length=max_length)
            items = []
            for index, item in enumerate(batch.inputs):
                place = self._blank(item.encoded.ids, index, blanks)
                items.append(ClozeInput(item.text, None, item.encoded, item.windows, own[index], answers[index], place))
        result = ClozeBatch(items, self._tokenizer(), self.backbone.token_types > 1, self.padding_side)
        result.blanks = blanks
        return result

    # -- scores -----------------------------------------------------------------------------------------------------

    def _of_tokens(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Scores of tokens [count, choices], predicted by hidden states [count, width]."""
        assert self.head is not None
        scores = self.head(states).float()
        return (scores.log_softmax(-1) if self.config.log_probabilities else scores).gather(1, tokens)

    def _of_choices(self, states: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Scores of choices, [rows], from hidden states [rows, length, width]; only what counts is computed."""
        counted = weights != 0
        values = self._of_tokens(states[counted], targets[counted][:, None])[:, 0]
        weights = weights.to(values.dtype)
        scores = torch.zeros_like(weights).masked_scatter(counted, values * weights[counted]).sum(-1)
        if not self.config.choice_length_penalty:
            return scores
        return scores / weights.sum(-1).clamp(min=1.0) ** self.config.choice_length_penalty

    def _after_texts(self, choices: Tensor, positions: Tensor | None, inputs: dict[str, Any]) -> BackboneOutput:
        """Reads the texts once, and each of their choices after them."""
        if "past_key_values" not in (names_of_parameters(self.backbone.forward) or ()):
            raise OptionError(
                f"{self.config.name!r} cannot read choice_ids after a text. Give whole rows as token_ids."
            )
        read = self.backbone(**inputs, use_cache=True)
        rows = torch.arange(len(choices), device=choices.device).repeat_interleave(choices.size(1))
        read.past_key_values.select(rows)
        mask = self.backbone.given_mask(read.last_hidden_state, inputs)
        if mask is not None:
            mask = torch.cat((mask[rows].bool(), choices.new_ones(len(rows), choices.size(2), dtype=torch.bool)), 1)
        further = {name: inputs[name] for name in FOR_BOTH_PASSES if name in inputs}
        if positions is not None:
            further["position_ids"] = positions.flatten(0, 1)
        output: BackboneOutput = self.backbone(
            choices.flatten(0, 1), mask, past_key_values=read.past_key_values, **further
        )
        return output

    # -- texts ------------------------------------------------------------------------------------------------------

    def _answers(self, choices: list[list[str]]) -> list[list[list[int]]]:
        """The tokens of all choices; each is taken for a word of its own."""
        tokenizer, flat = self._tokenizer(), [choice for own in choices for choice in own]
        spaced = [f" {choice.lstrip()}" if tokenizer.is_byte_level else choice for choice in self._normalize(flat)]
        rows = iter(tokenizer.encode_texts(spaced, add_special_tokens=False))
        answers = [[next(rows).ids for _ in own] for own in choices]
        for index, (own, found) in enumerate(zip(choices, answers, strict=True)):
            if [] in found:
                raise InputError(f"has the choice {own[found.index([])]!r:.100}, which has no tokens.", index)
        return answers

    def _check_lengths(self, answers: list[list[list[int]]]) -> None:
        for index, own in enumerate(answers):
            longest, most = max(map(len, own)), self.backbone.max_tokens
            if most is not None and longest > most:
                raise InputError(f"has a choice of {longest - 1} tokens; the most is {most - 1}.", index)

    def _blank(self, ids: list[int], index: int, blanks: Blanks) -> int:
        places = [place for place, token in enumerate(ids) if token in blanks.tokens]
        if len(places) != 1:
            known = ", ".join(str(self._tokenizer().id_to_token(token)) for token in blanks.tokens)
            raise InputError(f"has {len(places)} blanks among the tokens that are read. Give one of {known}.", index)
        return places[0]

    def _read_in_blanks(
        self,
        texts: list[str],
        choices: list[list[str]],
        answers: list[list[list[int]]],
        long_text: LongText | None,
        max_length: int | None,
    ) -> list[ClozeInput]:
        """A row for each choice, with as many masks as it has tokens."""
        mask, mask_id = self._tokenizer().mask_token, self._tokenizer().mask_token_id
        if mask is None or mask_id is None:
            raise PreprocessorError(
                "the tokenizer has no mask token, so there are no blanks. Use one with a mask_token."
            )
        for index, text in enumerate(texts):
            if text.count(mask) != 1:
                raise InputError(f"has {mask} {text.count(mask)} times. Put it once, where the choices belong.", index)
        rows = [
            text.replace(mask, mask * len(answer)) for text, own in zip(texts, answers, strict=True) for answer in own
        ]
        items = []
        for index, own in enumerate(self.rows_of_choices(rows, choices, long_text, max_length)):
            windows = [window for row in own for window in row.windows]
            if [row.ids.count(mask_id) for _, row in windows] != list(map(len, answers[index])):
                raise InputError(f"has no {mask} among the tokens that are read. Give a shorter text.", index)
            items.append(ClozeInput(texts[index], None, own[0].encoded, windows, choices[index], answers[index], None))
        return items
