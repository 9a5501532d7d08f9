"""How well things are put in order: MRR and Spearman's correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..configs import MetricConfig
from ..errors import DataError
from ..registry import register_metric
from .metric import Metric, plain

__all__ = ["MRR", "MRRConfig", "Spearman", "SpearmanConfig"]


@dataclass
class MRRConfig(MetricConfig):
    """Mean reciprocal rank."""

    name = "mrr"
    ranked: bool = False
    """Whether predictions are things in order, best first, and not scores."""
    cutoff: int | None = None
    """Ranks above this count as not found; None: all count."""


@dataclass
class SpearmanConfig(MetricConfig):
    """Spearman's rank correlation."""

    name = "spearman"


@register_metric("mrr", MRRConfig, "mean of one over the rank of the first right thing")
class MRR(Metric):
    """Mean of one over the rank of the first right thing.

    A prediction is a list of scores, and its target the index of the right one, or a list of indices. Of equal scores
    the right one comes last, so that a model that tells nothing apart gains nothing. With `ranked`, a prediction is a
    list of things, best first, and its target the right one, or a list of them.
    """

    config_class = MRRConfig

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        total = 0.0
        for number, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            wanted = plain(target) if isinstance(target, list | tuple | set) or hasattr(target, "tolist") else [target]
            row = plain(prediction)
            rank = _place(row, wanted) if config.ranked else _rank(row, wanted, number)
            if rank is not None and (config.cutoff is None or rank <= config.cutoff):
                total += 1 / rank
        return {"mrr": total / len(targets)}


@register_metric("spearman", SpearmanConfig, "correlation of ranks")
class Spearman(Metric):
    """Correlation of the ranks of predicted and given numbers; NaN where all of one are equal."""

    config_class = SpearmanConfig

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        first, second = _ranks(predictions), _ranks(targets)
        first, second = first - first.mean(), second - second.mean()
        spread = float(first.norm() * second.norm())
        return {"spearman": float(first @ second) / spread if spread else math.nan}


def _place(row: list[Any], wanted: list[Any]) -> int | None:
    return next((place for place, thing in enumerate(row, 1) if thing in wanted), None)


def _rank(scores: list[float], wanted: list[int], number: int) -> int | None:
    for index in wanted:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(scores):
            raise DataError(f"target {number} is {index!r}, but there are {len(scores)} scores. Give an index of them.")
    best = max((scores[index] for index in wanted), default=math.nan)
    return None if math.isnan(best) else sum(score >= best for i, score in enumerate(scores) if i not in wanted) + 1


def _ranks(values: list[float]) -> torch.Tensor:
    """Ranks; equal values share the mean of theirs."""
    tensor = torch.tensor(values, dtype=torch.float64).flatten()
    _, inverse, counts = torch.unique(tensor, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    found: torch.Tensor = (ends - (counts.double() - 1) / 2)[inverse]
    return found
