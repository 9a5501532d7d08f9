"""Labels for texts and pairs of texts: one label, several labels, or a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.packing import Reads
from ..engine.routing import check_positive
from ..errors import ConfigError, OptionError
from ..outputs import BackboneOutput, ClassifierOutput
from .labels import LabelsConfig
from .scoring import ScoringTask
from .task import register_task
from .text import TextBatch, own_batch

Scores = Literal["softmax", "sigmoid", "none"]


class Label(TypedDict):
    """A label and its score: a probability, or, for regression, the value."""

    label: str
    score: float


@dataclass(kw_only=True)
class TextClassificationConfig(LabelsConfig):
    """Text classification."""

    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = None
    """How scores are read; None: one label, or regression where there is only one."""

    def check(self) -> None:
        super().check()
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ConfigError(
                f"{type(self).__name__}: one label is not a choice. Use problem_type='regression' or more labels."
            )

    @property
    def problem(self) -> str:
        """`problem_type`, decided."""
        return self.problem_type or ("regression" if self.num_labels == 1 else "single_label_classification")


@register_task(
    "text_classification",
    TextClassificationConfig,
    "labels for texts and pairs of texts",
    aliases=("classification", "sequence_classification", "semantic_matching"),
    endings=("ForSequenceClassification",),
    pipeline_tag="text-classification",
)
class TextClassification(ScoringTask):
    """Classifies texts; a pair of texts is classified together, as in semantic matching."""

    config: TextClassificationConfig

    @property
    def tokens_read(self) -> Reads:
        """Which tokens the head looks at."""
        return self.backbone.summary

    def states(self, output: BackboneOutput, inputs: Mapping[str, Any]) -> Tensor:
        """The token that sums up each text, [batch, 1, width]."""
        return self.backbone.summarize(output.last_hidden_state, inputs)

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, binary cross entropy for several labels, or squared error for regression.

        Args:
            logits: [batch, labels].
            labels: [batch] int64; [batch, labels] of 0 and 1 for several labels; [batch] numbers for regression.
        """
        if self.config.problem == "regression":
            return F.mse_loss(
                logits.squeeze(-1).float(), labels.squeeze(-1).float() if labels.ndim > 1 else labels.float()
            )
        if self.config.problem == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits.float(), labels.float())
        return F.cross_entropy(logits.float(), labels)

    def post_process(  # type: ignore[override]
        self,
        outputs: ClassifierOutput,
        batch: TextBatch,
        *,
        top_k: int | Literal["auto"] | None = "auto",
        threshold: float | None = None,
        scores: Scores | None = None,
    ) -> list[list[Label]]:
        """Scores to labels.

        Args:
            outputs: Of `forward`.
            batch: Of `preprocess`. Windows of one text are averaged.
            top_k: How many labels per input, best first; None: all. Default: one, or all above the threshold where an
                input has several labels.
            threshold: Leave out labels with a lower score; default: 0.5 where an input has several labels.
            scores: How scores come from logits; default: by the kind of problem.

        Returns:
            For each input its labels, best first.
        """
        several = self.config.problem == "multi_label_classification"
        if top_k == "auto":
            top_k = None if several else 1
        if top_k is not None:
            check_positive("top_k", top_k, ", or None for all labels")
        if threshold is None:
            threshold = 0.5 if several else float("-inf")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or math.isnan(threshold):
            raise OptionError(f"threshold is {threshold!r}; it must be a number.")
        values = self._scores(outputs.logits.float(), scores)
        means = torch.stack([values[rows].mean(0) for rows in own_batch(batch).rows])
        best, indices = means.sort(-1, descending=True)
        return [
            [
                Label(label=self.config.label(i), score=score)
                for score, i in zip(row, order, strict=True)
                if score >= threshold
            ][:top_k]
            for row, order in zip(best.tolist(), indices.tolist(), strict=True)
        ]

    def _scores(self, logits: Tensor, scores: Scores | None) -> Tensor:
        by_problem: dict[str, Scores] = {"regression": "none", "multi_label_classification": "sigmoid"}
        kind = scores or by_problem.get(self.config.problem, "softmax")
        if kind == "softmax":
            return logits.softmax(-1)
        if kind == "sigmoid":
            return logits.sigmoid()
        if kind == "none":
            return logits
        raise OptionError(f"scores is {kind!r}; it must be 'softmax', 'sigmoid' or 'none'.")
