"""Names of classes, and numbers for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from ..errors import DataError, did_you_mean
from ..paths import shortened

__all__ = ["Labels"]

MOST_LABELS = 10**6


class Labels:
    """The classes of a dataset.

    Args:
        id2label: Name of each class by its number.
    """

    def __init__(self, id2label: Mapping[int, str]) -> None:
        self.id2label = dict(id2label)

    @classmethod
    def of(cls, given: Mapping[int, str] | None, names: Sequence[str] | None, values: Iterable[Any]) -> Labels:
        """The classes that the config gives, or the source, or the values themselves, sorted.

        Integers are numbers of classes; their names are then the numbers.

        Raises:
            DataError: For a number that would make a million classes.
        """
        if given is not None:
            return cls(given)
        if names is not None:
            return cls(dict(enumerate(names)))
        found = {value for value in values if isinstance(value, str | int)}
        numbers = {value for value in found if isinstance(value, int)}
        if numbers and max(numbers) >= MOST_LABELS:
            raise DataError(f"a label is {max(numbers)}, which is no number of a class. Give id2label, or regression.")
        if found and numbers == found:
            return cls({number: str(number) for number in range(max(max(numbers) + 1, 2))})
        return cls(dict(enumerate(sorted(map(str, found)))))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """Number of each class by its name."""
        return {name: number for number, name in self.id2label.items()}

    def number(self, value: Any, where: str) -> int:
        """The number of a class, given its name or its number, which may be written as a text.

        Raises:
            DataError: When there is no such class.
        """
        if isinstance(value, str):
            found = self.label2id.get(value)
            if found is None and value.isdecimal() and int(value) in self.id2label:
                found = int(value)
            if found is not None:
                return found
        elif isinstance(value, int) and int(value) in self.id2label:
            return int(value)
        if isinstance(value, float):
            raise DataError(f"{where}: the label {value!r} is no class. Give names or whole numbers, or regression.")
        raise DataError(f"{where}: there is no label {shortened(value, 80)}.{did_you_mean(value, self.label2id)}")
