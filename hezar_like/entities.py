"""Entities in labels of words: which words belong together, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = ["Entity", "Scheme", "default_entities", "strict_entities"]

Scheme = Literal["IOB2", "IOE2", "IOBES", "BILOU"]


class Entity(NamedTuple):
    """A kind, the first word, and one past the last."""

    kind: str
    start: int
    end: int


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


def _parts(label: str, suffix: bool) -> tuple[str, str]:
    """The position and the kind in a label; a label without a kind is of the kind _."""
    if label == "O":
        return "O", ""
    if suffix:
        kind, _, tag = label.rpartition("-")
        return tag[-1:] or "O", kind or "_"
    tag, _, kind = label.partition("-")
    return tag[:1] or "O", kind or "_"
