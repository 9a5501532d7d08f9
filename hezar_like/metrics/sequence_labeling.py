"""Entities that are found whole: what the package `seqeval` counts, whose last release is of 2020.

In the mode "default" entities are read as the script of CoNLL-2000 reads them, whatever the scheme; in "strict" only
sequences that a scheme allows are entities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from ..configs import MetricConfig
from ..errors import DataError, OptionError
from ..fields import Between
from ..registry import register_metric
from .classification import IGNORED
from .metric import Metric, plain

__all__ = ["Entity", "Seqeval", "SeqevalConfig", "default_entities", "strict_entities"]

Scheme = Literal["IOB2", "IOE2", "IOBES", "BILOU"]


class Entity(NamedTuple):
    """A kind, the first word, and one past the last."""

    kind: str
    start: int
    end: int


@dataclass
class SeqevalConfig(MetricConfig):
    """Entities."""

    name = "seqeval"
    mode: Literal["strict"] | None = None
    """None reads every scheme as CoNLL's script does; "strict" takes only what `scheme` allows."""
    scheme: Scheme = "IOB2"
    """The scheme of "strict"."""
    suffix: bool = False
    """Whether labels are written as PER-B, and not as B-PER."""
    average: Literal["micro", "macro", "weighted"] = "micro"
    """Over all entities; mean of kinds; mean by their number of targets."""
    per_class: bool = False
    """Whether the values of each kind are added, as f1.PER."""
    id2label: dict[int, str] | None = None
    """Names of labels, where predictions and targets are numbers or scores."""
    zero_division: Annotated[float, Between(0, 1)] = 0.0
    """The value where there is nothing to divide by."""


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
            kept = [(self._name(a), self._name(b)) for a, b in zip(own, wanted, strict=True) if b != IGNORED]
            sentences.append([a for a, _ in kept])
            right.append([b for _, b in kept])
        return sentences, right

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        pairs = [pair for a, b in zip(predictions, targets, strict=True) for pair in zip(a, b, strict=True)]
        if not pairs:
            raise DataError("all sentences are empty. Give labels.")
        found, wanted = (_counted(rows, config) for rows in (predictions, targets))
        right, guessed, there = (Counter(e.kind for _, e in found & wanted), Counter(e.kind for _, e in found),
                                 Counter(e.kind for _, e in wanted))  # fmt: skip
        kinds = sorted({*guessed, *there})
        zero = config.zero_division
        each = {kind: _values(right[kind], guessed[kind], there[kind], zero) for kind in kinds}
        total = _values(right.total(), guessed.total(), there.total(), zero)
        if config.average != "micro" and each:
            weights = {kind: there[kind] if config.average == "weighted" else 1 for kind in kinds}
            whole = sum(weights.values()) or 1
            total = tuple(sum(each[kind][i] * weights[kind] for kind in kinds) / whole for i in range(3))
        names = ("precision", "recall", "f1")
        values = {"accuracy": sum(a == b for a, b in pairs) / len(pairs), **dict(zip(names, total, strict=True))}
        if config.per_class:
            values |= {f"{name}.{kind}": each[kind][i] for kind in kinds for i, name in enumerate(names)}
        return values

    def _name(self, label: Any) -> str:
        if isinstance(label, str):
            return label
        names = self.config.id2label
        if names is None or label not in names:
            raise OptionError(f"the label {label!r} has no name. Give the metric the id2label of the data.")
        return str(names[label])


def default_entities(labels: Sequence[str], suffix: bool = False) -> list[Entity]:
    """The entities of a sentence as the script of CoNLL-2000 reads them: I- after something else begins one too."""
    entities: list[Entity] = []
    before, kind_before, start = "O", "", 0
    for place, (tag, kind) in enumerate([*(_parts(label, suffix) for label in labels), ("O", "")]):
        changed = kind != kind_before
        if before != "O" and (before in "ES" or (before in "BI" and tag in "BSO") or changed):
            entities.append(Entity(kind_before, start, place))
        if tag in "BS" or (tag in "EI" and before in "ESO") or (tag != "O" and changed):
            start = place
        before, kind_before = tag, kind
    return entities


# For each scheme: what begins an entity of several words, continues it, ends it, and is one by itself.
PARTS = {"IOB2": ("B", "I", "", "B"), "IOE2": ("", "I", "E", "E"), "IOBES": ("B", "I", "E", "S"),
         "BILOU": ("B", "I", "L", "U")}  # fmt: skip


def strict_entities(labels: Sequence[str], scheme: Scheme, suffix: bool = False) -> list[Entity]:
    """The entities of a sentence that a scheme allows; sequences that it does not are none."""
    first, inner, last, single = PARTS[scheme]
    tags = [*(_parts(label, suffix) for label in labels), ("O", "")]
    entities: list[Entity] = []
    start: int | None = None
    for place, (tag, kind) in enumerate(tags):
        if start is not None and (tag not in (inner, last) or kind != tags[start][1]):
            if not last:  # nothing but the next label says that it ended
                entities.append(Entity(tags[start][1], start, place))
            start = None
        if start is not None and tag == last:
            entities.append(Entity(kind, start, place + 1))
            start = None
        elif start is None and tag == single and last:
            entities.append(Entity(kind, place, place + 1))
        elif start is None and tag == (first or inner):
            start = place
    return entities


def _counted(rows: Sequence[Sequence[str]], config: Any) -> set[tuple[int, Entity]]:
    found: set[tuple[int, Entity]] = set()
    for number, labels in enumerate(rows):
        if config.mode == "strict":
            entities = strict_entities(labels, config.scheme, config.suffix)
        else:
            entities = default_entities(labels, config.suffix)
        found.update((number, entity) for entity in entities)
    return found


def _parts(label: str, suffix: bool) -> tuple[str, str]:
    """The position and the kind in a label; a label without a kind is of the kind _."""
    if label == "O":
        return "O", ""
    if suffix:
        kind, _, tag = label.rpartition("-")
        return tag[-1:] or "O", kind or "_"
    tag, _, kind = label.partition("-")
    return tag[:1] or "O", kind or "_"


def _values(right: int, guessed: int, wanted: int, zero: float) -> tuple[float, ...]:
    precision = right / guessed if guessed else zero
    recall = right / wanted if wanted else zero
    return precision, recall, 2 * right / (guessed + wanted) if guessed + wanted else zero
