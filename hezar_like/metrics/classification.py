"""How often classes are right: accuracy, precision, recall, F1."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from ..configs import MetricConfig
from ..errors import DataError, OptionError
from ..fields import Between
from ..registry import register_metric
from .metric import Metric, plain

__all__ = ["F1", "Accuracy", "AccuracyConfig", "F1Config", "Precision", "PrecisionConfig", "Recall", "RecallConfig"]

IGNORED = -100


@dataclass
class AccuracyConfig(MetricConfig):
    """Share of right classes."""

    name = "accuracy"
    normalize: bool = True
    """Whether the share of right ones is returned, or their number."""


@dataclass
class AverageConfig(MetricConfig):
    """Fields of metrics that are averaged over classes."""

    average: Literal["micro", "macro", "weighted", "binary"] | None = "macro"
    """Over all samples; mean of classes; mean by their number of targets; one class; None: each class by itself."""
    pos_label: int | str = 1
    """The class that counts with "binary"."""
    id2label: dict[int, str] | None = None
    """Names of classes, for the names of values where each counts by itself."""
    zero_division: Annotated[float, Between(0, 1)] = 0.0
    """The value where there is nothing to divide by."""


@dataclass
class PrecisionConfig(AverageConfig):
    """How many of the predictions of a class are right."""

    name = "precision"


@dataclass
class RecallConfig(AverageConfig):
    """How many of the targets of a class are found."""

    name = "recall"


@dataclass
class F1Config(AverageConfig):
    """Harmonic mean of precision and recall."""

    name = "f1"


class ClassMetric(Metric):
    """Base of metrics of classes.

    Predictions are classes, numbers or names, or scores of classes: a tensor or array of floats with one dimension
    more than the targets, whose last one is that of classes. Targets that are -100 do not count, as those of tokens
    without a label.
    """

    def reduce(self, predictions: Any, targets: Any) -> tuple[list[Any], list[Any]]:
        if hasattr(predictions, "ndim"):
            found = torch.as_tensor(predictions)
            given = torch.as_tensor(targets)
            if found.is_floating_point() and found.ndim == given.ndim + 1:
                found = found.argmax(-1)
            if found.shape != given.shape:
                raise DataError(
                    f"predictions have the shape {tuple(found.shape)}, and targets {tuple(given.shape)}. Give classes "
                    "of the targets' shape, or scores with one dimension more."
                )
            counted = given != IGNORED
            return found[counted].tolist(), given[counted].tolist()
        first, second = super().reduce(predictions, targets)
        pairs = [
            (plain(a), plain(b)) if isinstance(b, list) else ([a], [b]) for a, b in zip(first, second, strict=True)
        ]
        if any(len(a) != len(b) for a, b in pairs):
            raise DataError("a row of predictions is not as long as its row of targets. Give as many of both.")
        kept = [(a, b) for row in pairs for a, b in zip(*row, strict=True) if b != IGNORED]
        return [a for a, _ in kept], [b for _, b in kept]


@register_metric("accuracy", AccuracyConfig, "share of right classes")
class Accuracy(ClassMetric):
    """Share of right classes; see `ClassMetric` for what it takes."""

    config_class = AccuracyConfig

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        right = sum(a == b for a, b in zip(predictions, targets, strict=True))
        return {"accuracy": right / len(targets) if config.normalize else right}


class AveragedMetric(ClassMetric):
    """Base of precision, recall and F1."""

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        right = Counter(b for a, b in zip(predictions, targets, strict=True) if a == b)
        guessed, wanted = Counter(predictions), Counter(targets)
        classes = sorted({*guessed, *wanted}, key=lambda label: (isinstance(label, str), label))
        each = {c: self.value(right[c], guessed[c], wanted[c], config.zero_division) for c in classes}
        name = config.name
        if config.average == "micro":
            return {name: self.value(right.total(), guessed.total(), wanted.total(), config.zero_division)}
        if config.average == "macro":
            return {name: sum(each.values()) / len(each)}
        if config.average == "weighted":
            return {name: sum(each[c] * wanted[c] for c in classes) / wanted.total()}
        if config.average == "binary":
            if len(classes) > 2:
                raise OptionError(f"average='binary' is for two classes, and there are {len(classes)}. Use 'macro'.")
            if len(classes) == 2 and config.pos_label not in classes:
                raise OptionError(f"pos_label is {config.pos_label!r}, but the classes are {classes}. Name one.")
            return {name: each.get(config.pos_label, config.zero_division)}
        names = config.id2label or {}
        return {f"{name}.{names.get(c, c) if isinstance(c, int) else c}": value for c, value in each.items()}

    @staticmethod
    def value(right: int, guessed: int, wanted: int, zero_division: float) -> float:
        """The value of one class, or of all together.

        Args:
            right: How often it was predicted and right.
            guessed: How often it was predicted.
            wanted: How often it was right.
            zero_division: The value where there is nothing to divide by.
        """
        raise NotImplementedError


@register_metric("precision", PrecisionConfig, "how many predictions of a class are right")
class Precision(AveragedMetric):
    """How many of the predictions of a class are right."""

    config_class = PrecisionConfig

    @staticmethod
    def value(right: int, guessed: int, wanted: int, zero_division: float) -> float:
        return right / guessed if guessed else zero_division


@register_metric("recall", RecallConfig, "how many targets of a class are found")
class Recall(AveragedMetric):
    """How many of the targets of a class are found."""

    config_class = RecallConfig

    @staticmethod
    def value(right: int, guessed: int, wanted: int, zero_division: float) -> float:
        return right / wanted if wanted else zero_division


@register_metric("f1", F1Config, "harmonic mean of precision and recall")
class F1(AveragedMetric):
    """Harmonic mean of precision and recall."""

    config_class = F1Config

    @staticmethod
    def value(right: int, guessed: int, wanted: int, zero_division: float) -> float:
        return 2 * right / (guessed + wanted) if guessed + wanted else zero_division
