"""Entities that are found whole: what the package `seqeval` counts, whose last release is of 2020.

In the mode "default" entities are read as the script of CoNLL-2000 reads them, whatever the scheme; in "strict" only
sequences that a scheme allows are entities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ..configs import MetricConfig
from ..entities import Entity, Scheme, default_entities, strict_entities
from ..errors import DataError, OptionError
from ..fields import Between
from ..registry import register_metric
from .classification import IGNORED
from .metric import Metric, plain

__all__ = ["EntityConfig", "Seqeval", "SeqevalConfig", "entity_values", "label_name"]


@dataclass
class EntityConfig(MetricConfig):
    """Fields of metrics of entities."""

    average: Literal["micro", "macro", "weighted"] = "micro"
    """Over all entities; mean of kinds; mean by their number of targets."""
    per_class: bool = False
    """Whether the values of each kind are added, as f1.PER."""
    id2label: dict[int, str] | None = None
    """Names of labels, where predictions and targets are numbers or scores."""
    zero_division: Annotated[float, Between(0, 1)] = 0.0
    """The value where there is nothing to divide by."""


@dataclass
class SeqevalConfig(EntityConfig):
    """Entities."""

    name = "seqeval"
    mode: Literal["strict"] | None = None
    """None reads every scheme as CoNLL's script does; "strict" takes only what `scheme` allows."""
    scheme: Scheme = "IOB2"
    """The scheme of "strict"."""
    suffix: bool = False
    """Whether labels are written as PER-B, and not as B-PER."""


@register_metric("seqeval", SeqevalConfig, "entities that are found whole, in labels of words")
class Seqeval(Metric):
    """Accuracy of labels; precision, recall and F1 of entities.

    Predictions and targets are for each sentence a list of labels: names, or numbers of `id2label`. Or predictions are
    scores [sentences, length, labels], or numbers [sentences, length], and targets numbers [sentences, length], of
    which those that are -100 do not count.
    """

    config_class = SeqevalConfig

    def reduce(self, predictions: Any, targets: Any) -> tuple[list[Any], list[Any]]:
        if hasattr(predictions, "ndim") and predictions.ndim == 3:
            predictions = predictions.argmax(-1)
        first, second = super().reduce(predictions, targets)
        sentences: list[list[str]] = []
        right: list[list[str]] = []
        for number, (own, wanted) in enumerate(zip(map(plain, first), map(plain, second), strict=True)):
            if len(own) != len(wanted):
                raise DataError(f"sentence {number} has {len(own)} predictions, but {len(wanted)} targets.")
            kept = [(a, b) for a, b in zip(own, wanted, strict=True) if b != IGNORED]
            sentences.append([label_name(self.config, a) for a, _ in kept])
            right.append([label_name(self.config, b) for _, b in kept])
        return sentences, right

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        pairs = [pair for a, b in zip(predictions, targets, strict=True) for pair in zip(a, b, strict=True)]
        if not pairs:
            raise DataError("all sentences are empty. Give labels.")
        found, wanted = (_counted(rows, config) for rows in (predictions, targets))
        accuracy = sum(a == b for a, b in pairs) / len(pairs)
        return {"accuracy": accuracy, **entity_values(found, wanted, config)}


def label_name(config: EntityConfig, label: Any) -> str:
    """The name of a label that may be a number.

    Raises:
        OptionError: When nothing names it.
    """
    if isinstance(label, str):
        return label
    names = config.id2label
    if names is None or label not in names:
        raise OptionError(f"the label {label!r} has no name. Give the metric the id2label of the data.")
    return str(names[label])


def entity_values(found: set[tuple[int, Entity]], wanted: set[tuple[int, Entity]], config: Any) -> dict[str, float]:
    """Precision, recall and F1 of entities.

    Args:
        found: Those that were predicted, each with the number of its text.
        wanted: Those that are right.
        config: With `average`, `per_class` and `zero_division`; see `SeqevalConfig`.
    """
    right, guessed, there = (Counter(entity.kind for _, entity in some) for some in (found & wanted, found, wanted))
    kinds = sorted({*guessed, *there})
    zero = config.zero_division
    each = {kind: _values(right[kind], guessed[kind], there[kind], zero) for kind in kinds}
    total = _values(right.total(), guessed.total(), there.total(), zero)
    if config.average != "micro" and each:
        weights = {kind: there[kind] if config.average == "weighted" else 1 for kind in kinds}
        whole = sum(weights.values()) or 1
        total = tuple(sum(each[kind][i] * weights[kind] for kind in kinds) / whole for i in range(3))
    names = ("precision", "recall", "f1")
    values = dict(zip(names, total, strict=True))
    if config.per_class:
        values |= {f"{name}.{kind}": each[kind][i] for kind in kinds for i, name in enumerate(names)}
    return values


def _counted(rows: Sequence[Sequence[str]], config: Any) -> set[tuple[int, Entity]]:
    found: set[tuple[int, Entity]] = set()
    for number, labels in enumerate(rows):
        if config.mode == "strict":
            entities = strict_entities(labels, config.scheme, config.suffix)
        else:
            entities = default_entities(labels, config.suffix)
        found.update((number, entity) for entity in entities)
    return found


def _values(right: int, guessed: int, wanted: int, zero: float) -> tuple[float, ...]:
    precision = right / guessed if guessed else zero
    recall = right / wanted if wanted else zero
    return precision, recall, 2 * right / (guessed + wanted) if guessed + wanted else zero
