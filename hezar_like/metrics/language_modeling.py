"""How well a model foresees tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from ..configs import MetricConfig
from ..errors import DataError
from ..registry import register_metric
from .classification import IGNORED
from .metric import Metric

__all__ = ["Perplexity", "PerplexityConfig"]


@dataclass
class PerplexityConfig(MetricConfig):
    """Perplexity."""

    name = "perplexity"
    objective: Literal["maximize", "minimize"] = "minimize"
    """Whether more is better."""
    shifts_labels: bool = False
    """Whether labels are the input itself, each predicted from the token before, as the backbone says."""


@register_metric("perplexity", PerplexityConfig, "how many tokens a model hesitates between")
class Perplexity(Metric):
    """Perplexity and mean loss of all tokens, whatever batches they come in.

    Predictions are logits [batch, length, vocabulary], and targets labels [batch, length], of which those that are -100
    do not count. Or predictions are mean losses, and targets how many tokens each is of.
    """

    config_class = PerplexityConfig

    def reduce(self, predictions: Any, targets: Any) -> tuple[list[Any], list[Any]]:
        if getattr(predictions, "ndim", 1) < 2:
            return super().reduce(predictions, targets)
        logits, labels = torch.as_tensor(predictions), torch.as_tensor(targets)
        if self.config.shifts_labels:
            logits, labels = logits[:, :-1], labels[:, 1:]
        counted = labels != IGNORED
        count = int(counted.sum())
        if not count:
            return [0.0], [0]
        losses = F.cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
        return [float(losses) / count], [count]

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        total = sum(targets)
        if not total:
            raise DataError("no label counts, so that there is no perplexity. Give labels that are not -100.")
        loss = sum(loss * count for loss, count in zip(predictions, targets, strict=True)) / total
        return {"perplexity": math.inf if loss > 700 else math.exp(loss), "loss": loss}
