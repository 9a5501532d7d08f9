"""Labelled spans of texts that are found whole; they may nest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..entities import Entity
from ..errors import DataError
from ..registry import register_metric
from .metric import Metric
from .sequence_labeling import EntityConfig, entity_values, label_name

__all__ = ["Spans", "SpansConfig"]


@dataclass
class SpansConfig(EntityConfig):
    """Labelled spans."""

    name = "spans"


@register_metric("spans", SpansConfig, "labelled spans that are found whole, and may nest")
class Spans(Metric):
    """Precision, recall and F1 of labelled spans.

    Predictions and targets are for each text a list of spans: first token or letter, last one, and label, a name or a
    number of `id2label`. Or predictions are scores [texts, labels, length, length], first token by last, of which
    those above 0 are spans, and targets such a tensor with 1 for each span.
    """

    config_class = SpansConfig

    def reduce(self, predictions: Any, targets: Any) -> tuple[list[Any], list[Any]]:
        if not hasattr(predictions, "ndim"):
            return super().reduce(predictions, targets)
        if predictions.shape != targets.shape or predictions.ndim != 4:
            raise DataError(
                f"predictions have the shape {tuple(predictions.shape)}, and targets {tuple(targets.shape)}. Give "
                "[texts, labels, length, length] for both."
            )
        rows: tuple[list[Any], list[Any]] = [[] for _ in predictions], [[] for _ in targets]
        for found, places in zip(rows, (predictions > 0, targets > 0), strict=True):
            for text, label, first, last in places.nonzero().tolist():
                found[text].append((first, last, label))
        return rows

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        return entity_values(_counted(predictions, config), _counted(targets, config), config)


def _counted(rows: Iterable[Iterable[Any]], config: SpansConfig) -> set[tuple[int, Entity]]:
    found = set()
    for number, spans in enumerate(rows):
        for first, last, label in spans:
            found.add((number, Entity(label_name(config, label), first, last)))
    return found
