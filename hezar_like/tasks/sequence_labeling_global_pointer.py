"""Labels for spans of texts, which may overlap and nest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from ..errors import ConfigError, OptionError
from ..fields import Between
from ..layers import GlobalPointerHead, multilabel_cross_entropy
from ..outputs import BackboneOutput, ClassifierOutput
from .labels import LabelsConfig
from .sequence_labeling import LabelingTask, TokenLabel, content_offsets, text_record
from .task import register_task
from .text import TextBatch, TextInput, own_batch


@dataclass(kw_only=True)
class SequenceLabelingGlobalPointerConfig(LabelsConfig):
    """Labels for spans (Su et al., 2022)."""

    inner_dim: Annotated[int, Between(2, 2**16)] = 64
    """Channels of the queries and keys of each label; even."""

    def check(self) -> None:
        super().check()
        if self.inner_dim % 2:
            raise ConfigError(f"{type(self).__name__}.inner_dim is {self.inner_dim}; it must be even.")


@register_task(
    "sequence_labeling_global_pointer",
    SequenceLabelingGlobalPointerConfig,
    "labels for the spans of texts, which may nest",
    aliases=("sequence_labeling_gp", "ner_global_pointer", "ner_gp"),
    pipeline_tag="token-classification",
)
class SequenceLabelingGlobalPointer(LabelingTask):
    """Labels spans. A span of a long text is found when it fits into one of its windows."""

    config: SequenceLabelingGlobalPointerConfig

    def read_out(
        self, output: BackboneOutput, inputs: Mapping[str, Any], labels: Tensor | None, scored: Tensor | None = None
    ) -> ClassifierOutput:
        """Scores spans; see `ScoringTask`. The logits are [batch, labels, length, length]: first token by last."""
        assert isinstance(self.head, GlobalPointerHead) and scored is None
        mask = self.backbone.given_mask(output.last_hidden_state, inputs)
        logits = self.head(output.last_hidden_state, None if mask is None else mask.bool())
        return ClassifierOutput.of(output, logits, None if labels is None else self.compute_loss(logits, labels))

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over texts and labels of the cross entropy of their spans, a scalar.

        Args:
            logits: [batch, labels, length, length].
            labels: The same shape: 1 for the first and last token of a span with that label, else 0.
        """
        return multilabel_cross_entropy(logits.flatten(2), labels.flatten(2))

    def post_process(  # type: ignore[override]
        self,
        outputs: ClassifierOutput,
        batch: TextBatch,
        *,
        threshold: float = 0.5,
        return_offsets: bool = True,
        return_scores: bool = True,
    ) -> list[list[TokenLabel]]:
        """Scores to labeled spans.

        Args:
            outputs: Of `forward`.
            batch: Of `preprocess`.
            threshold: Leave out spans whose score, a probability, is not above it.
            return_offsets: False leaves `start` and `end` None.
            return_scores: False leaves `score` None.

        Returns:
            For each input its records, in the order of the text; see `SequenceLabeling.post_process` for the offsets.
        """
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise OptionError(f"threshold is {threshold!r}; it must be a number between 0 and 1.")
        places = (outputs.logits > math.log(threshold / (1 - threshold))).nonzero()
        scores = outputs.logits[tuple(places.T)].sigmoid().tolist()
        hits: dict[int, list[tuple[int, int, int, float]]] = {}
        for (row, label, first, last), score in zip(places.tolist(), scores, strict=True):
            hits.setdefault(row, []).append((label, first, last, score))
        results = []
        for item, rows in zip(own_batch(batch).inputs, batch.rows, strict=True):
            records = self._records(item, [hits.get(row, []) for row in range(rows.start, rows.stop)])
            for record in records:
                if not return_offsets:
                    record["start"] = record["end"] = None
                if not return_scores:
                    record["score"] = None
            results.append(records)
        return results

    def _records(self, item: TextInput, windows: list[list[tuple[int, int, int, float]]]) -> list[TokenLabel]:
        """The spans of one input; one that is found in two windows has the better score."""
        found: dict[tuple[int, int, int], float] = {}
        for (start, row), hits in zip(item.windows, windows, strict=True):
            token = {column: start + index for index, column in enumerate(row.content)}
            for label, first, last, score in hits:
                if first in token and last in token:
                    span = token[first], token[last], label
                    found[span] = max(score, found.get(span, 0.0))
        offsets = content_offsets(item)
        records = [
            text_record(item, offsets[first][0], offsets[last][1], self.label_name(label), score)
            for (first, last, label), score in sorted(found.items())
        ]
        return [record for record in records if record["token"]]
