"""Tokens for the masks in a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from torch import Tensor

from ..configs import ModelConfig
from ..engine.routing import check_positive
from ..errors import InputError, PreprocessorError
from ..outputs import ClassifierOutput
from .scoring import ScoringTask
from .task import register_task
from .text import TextBatch, TextInput, content_places, own_batch


class FilledMask(TypedDict):
    """A proposal for one mask.

    Attributes:
        token: The token as text.
        sequence: The text with this token in the mask's place, and the best tokens in those of other masks.
        token_id: Its id.
        score: Its probability.
    """

    token: str
    sequence: str
    token_id: int
    score: float


@register_task(
    "mask_filling",
    ModelConfig,
    "tokens for masks",
    aliases=("fill_mask", "masked_lm", "masklm"),
    endings=("ForMaskedLM", "ForPreTraining"),
    pipeline_tag="fill-mask",
)
class MaskFilling(ScoringTask):
    """Fills the masks in texts."""

    def forward(self, *, labels: Tensor | None = None, scored: Tensor | None = None, **inputs: Any) -> ClassifierOutput:
        """See `ScoringTask`; `scored`, bool [batch, length], scores only these tokens, in one row."""
        return self.read_out(self.backbone(**inputs), inputs, labels, scored)

    def infer(self, batch: Any, **options: Any) -> ClassifierOutput:
        """Scores only the masks: the vocabulary is by far the widest layer."""
        if isinstance(batch, Mapping) and "token_ids" in batch and "scored" not in options:
            options["scored"] = batch["token_ids"] == self._mask_id()
        output: ClassifierOutput = super().infer(batch, **options)
        return output

    def post_process(  # type: ignore[override]
        self, outputs: ClassifierOutput, batch: TextBatch, *, top_k: int = 1
    ) -> list[list[FilledMask]] | list[list[list[FilledMask]]]:
        """Scores to proposals.

        Args:
            outputs: Of `infer`.
            batch: Of `preprocess`.
            top_k: How many proposals per mask, best first.

        Returns:
            For each input its proposals; for an input with several masks a list of proposals for each.

        Raises:
            InputError: For a text without a mask.
        """
        check_positive("top_k", top_k)
        probabilities = outputs.logits.float().softmax(-1)
        scores, tokens = probabilities.topk(min(top_k, probabilities.size(-1)))
        scored = batch["token_ids"] == self._mask_id()
        index = {(row, column): i for i, (row, column) in enumerate(scored.nonzero().tolist())}
        results = []
        for item, rows in zip(own_batch(batch).inputs, batch.rows, strict=True):
            masks = []
            for window, column in content_places(item):
                number = index.get((rows.start + window, column))
                if number is not None:
                    masks.append((scores[number].tolist(), tokens[number].tolist()))
            proposals = self._proposals(item, masks)
            results.append(proposals[0] if len(proposals) == 1 else proposals)
        return results  # type: ignore[return-value]

    def check_input(self, item: TextInput, index: int) -> None:
        if isinstance(item.text, tuple) and len(item.windows) > 1:
            raise InputError("is a pair that is too long for windows here. Use long_text='truncate' or 'error'.", index)
        if self._mask_id() not in item.encoded.ids:
            mask = self._tokenizer().mask_token
            raise InputError(
                f"has no {mask} among the tokens that are read. Put {mask} where a token is missing.", index
            )

    def _mask_id(self) -> int:
        mask = self._tokenizer().mask_token_id
        if mask is None:
            raise PreprocessorError(
                "the tokenizer has no mask token, so there is nothing to fill. Use a tokenizer with a mask_token."
            )
        return int(mask)

    def _proposals(self, item: TextInput, masks: list[tuple[list[float], list[int]]]) -> list[list[FilledMask]]:
        tokenizer, mask_id = self._tokenizer(), self._mask_id()
        places = [i for i, token in enumerate(item.encoded.ids) if token == mask_id]
        best = list(item.encoded.ids)
        for place, (_, tokens) in zip(places, masks, strict=True):
            best[place] = tokens[0]
        result = []
        for place, (scores, tokens) in zip(places, masks, strict=True):
            proposals: list[FilledMask] = []
            for score, token in zip(scores, tokens, strict=True):
                filled = [*best[:place], token, *best[place + 1 :]]
                proposals.append({
                    "token": tokenizer.decode([token])[0].strip(),
                    "sequence": tokenizer.decode(filled)[0],
                    "token_id": token,
                    "score": score,
                })  # fmt: skip
            result.append(proposals)
        return result
