"""What one rendering of a chat template may cost: everything that takes time or memory is paid for before it is done.

A template comes from a stranger, and a few of its characters can ask for years or for terabytes. The unit is about one
node of the template executed; texts are paid by their length, containers by all they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from typing import Any, ClassVar

from ..errors import PreprocessorError

__all__ = [
    "Budget",
    "check_format",
    "check_power",
    "check_times",
    "check_width",
    "counted",
    "made",
    "scan",
    "spend",
    "weigh",
]

READ = 16
"""So many characters are looked at for one unit."""
MADE = 4
"""So many characters are written for one unit."""
CALL = 30
"""The price of a call, a filter or a test, beside that of its values."""
ITEM = 5
"""The price of an item that an iterator makes."""
MOST_WORK = 4_000_000
MOST_DEPTH = 64
"""Levels of lists and mappings in each other."""
MOST_BITS = 10_000
"""Of a whole number."""
MOST_WIDTH = 10_000
"""Characters to which a text is padded."""
PLACE = re.compile(r"\{[^{}]*\}|%(?:\([^)]*\))?[^a-zA-Z%]*")
"""Where a text of `format` or `%` takes a value."""
CONTAINERS = (list, tuple, KeysView, ValuesView, set, frozenset)


class Budget:
    """The work that is left to the rendering in this thread; a context manager that begins one."""

    current: ClassVar[ContextVar[Budget]] = ContextVar("current")

    def __init__(self) -> None:
        self.left = MOST_WORK

    def __enter__(self) -> Budget:
        self._token = self.current.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.current.reset(self._token)


def too_much(what: str) -> PreprocessorError:
    """The error of a template that asks for more than it may."""
    return PreprocessorError(
        f"the chat template {what}. It is broken or hostile; give another one, or a shorter conversation."
    )


def spend(cost: int) -> bool:
    """Takes from the budget; True, so that a condition can spend.

    Raises:
        PreprocessorError: When it is used up.
    """
    budget = Budget.current.get()
    budget.left -= abs(cost)  # a template can reach this, and must not earn anything
    if budget.left < 0:
        raise too_much("does more work than any conversation needs")
    return True


def weigh(value: Any) -> Any:
    """Pays for reading a value with all that it holds; returns it.

    The same part counts wherever it is held, as whoever compares or prints the value meets it each time.
    """
    if type(value) is str or value is None or value is True or value is False:  # nearly always
        spend(1 + len(value) // READ if type(value) is str else 1)
        return value
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise too_much(f"nests values deeper than {MOST_DEPTH} levels")
        inner: list[Any] = []
        cost = len(level)
        for item in level:
            if isinstance(item, str):
                cost += len(item) // READ
            elif isinstance(item, Mapping):
                spend(4 * len(item))  # before they are listed
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, CONTAINERS):
                spend(2 * len(item))
                inner += item
            elif isinstance(item, range):
                cost += len(item)
            elif isinstance(item, int):
                _check_number(item)
        spend(cost)
        level = inner
    return value


def scan(value: Any) -> Any:
    """Pays for reading a text, or the items of a container but not what is in them; returns it."""
    if isinstance(value, str):
        spend(1 + len(value) // READ)
    elif isinstance(value, (*CONTAINERS, range)):
        spend(1 + len(value))
    return value


def made(value: Any) -> Any:
    """Pays for a new value, and counts what a new iterator will give; returns it."""
    if isinstance(value, str):
        spend(1 + len(value) // MADE)
        return value
    if isinstance(value, int):
        _check_number(value)
        return value
    if isinstance(value, (*CONTAINERS, Mapping)):
        spend(1 + 2 * len(value))
    return counted(value) if isinstance(value, Iterator) else value


def counted(items: Iterable[Any]) -> Iterator[Any]:
    """Gives the items, each for its price."""
    for item in items:
        spend(ITEM)
        yield item


def _check_number(value: int) -> None:
    if value.bit_length() > MOST_BITS:
        raise too_much("makes a number that is too large")


def check_times(left: Any, right: Any) -> None:
    """Pays for `left * right`, which can be a long text or list, or a number of many digits."""
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MOST_BITS:
            raise too_much("makes a number that is too large")
        return
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(times, int):
            spend(max(0, times) * (1 + len(sequence) // (MADE if isinstance(sequence, str) else 1)))


def check_power(left: Any, right: Any) -> None:
    """Refuses `left ** right` where it has too many digits."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MOST_BITS:
        raise too_much("makes a number that is too large")


def check_width(*numbers: Any) -> None:
    """Refuses widths to which nobody pads."""
    if any(isinstance(number, int) and abs(number) > MOST_WIDTH for number in numbers):
        raise too_much(f"pads a text to more than {MOST_WIDTH} characters")


def check_format(form: str, values: Any) -> None:
    """Pays for `form % values` and `form.format(values)`: each place can hold every value, padded to its width."""
    spend(1 + len(form) // MADE)
    if len(form) > MOST_WIDTH:
        raise too_much(f"fills a text of more than {MOST_WIDTH} characters with values")
    places = PLACE.findall(form)
    if any("*" in place for place in places if place[0] == "%") or re.search(r"\{[^}]*\{", form.replace("{{", "")):
        raise too_much("takes the width of a text from its values")
    widths = [int(digits[:9]) for place in places for digits in re.findall(r"[0-9]+", place)]
    check_width(*widths)
    before = Budget.current.get().left
    weigh(values)
    weight = (before - Budget.current.get().left) * (READ // MADE)
    spend(len(places) * (weight + max(widths, default=0) // MADE))
