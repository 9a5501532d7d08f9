"""The filters and tests that chat templates may use, each with its price."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sized
from functools import wraps
from typing import Any

from ..errors import PreprocessorError
from . import chat_budget as budget
from .chat_budget import CALL, check_width, made, scan, spend, weigh
from .chat_tree import ADD, CONCAT, CUT, SCAN, STEP, WEIGH

__all__ = ["paid_filters", "paid_tests", "pay_for_replacing"]

FREE = ("attr", "count", "d", "default", "first", "items", "last", "length")
"""Filters that do not look at all of their value."""
SCANS = ("batch", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice")
"""Filters that go through the items of their value."""
READS = (
    "abs", "capitalize", "center", "e", "escape", "float", "format", "indent", "int", "join", "lower", "replace",
    "round", "safe", "string", "title", "trim", "truncate", "upper",
)  # fmt: skip
"""Filters that read their value and what it holds."""
SORTS = ("dictsort", "groupby", "max", "min", "sort", "sum", "unique")
"""Filters that compare or add the items of their value."""
TESTS = (
    "boolean", "callable", "defined", "divisibleby", "eq", "equalto", "==", "!=", "<", "<=", ">", ">=", "even", "false",
    "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne",
    "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip

Function = Callable[..., Any]
MOST_INDENT = 8
MOST_PARTS = 16


def paid_filters(given: Mapping[str, Function]) -> dict[str, Function]:
    """Those of Jinja's filters that are allowed, with their prices; ours for JSON; and those of the changed tree."""
    filters = {name: _paid(name, given[name]) for name in (*FREE, *SCANS, *READS, *SORTS)}
    own: dict[str, Function] = {ADD: _add, CONCAT: _concat, CUT: _cut, SCAN: scan, STEP: spend, WEIGH: weigh}
    return {**filters, "tojson": _paid("tojson", _to_json), **own}


def paid_tests(given: Mapping[str, Function]) -> dict[str, Function]:
    """Those of Jinja's tests that are allowed, with their prices."""
    return {name: _paid_test(given[name]) for name in TESTS}


def _paid(name: str, function: Function) -> Function:
    """A filter that pays for what it reads and makes."""
    place = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0
    pay, pay_more = scan if name in SCANS else weigh, PAY_MORE.get(name)
    takes_all, finds_parts = name in (*SORTS, "join"), name in (*SCANS, *SORTS)

    @wraps(function)
    def free(*args: Any, **kwargs: Any) -> Any:
        spend(CALL + len(args))
        return made(function(*args, **kwargs))

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        spend(CALL + len(args))
        if len(args) <= place:
            return function(*args, **kwargs)  # which names what is missing
        value, others = args[place], (*args[place + 1 :], *kwargs.values())
        if takes_all and isinstance(value, Iterator):
            value = list(value)
        pay(value)
        for other in others:
            weigh(other)
        if finds_parts:
            _check_paths(others)
        if pay_more is not None:
            pay_more(value, *others)
        return made(function(*args[:place], value, *args[place + 1 :], **kwargs))

    return free if name in FREE else paid


def pay_for_replacing(text: Any, old: Any = "", new: Any = "", *others: Any) -> None:
    """Pays for a text in which all `old` become `new`."""
    text, old, new = str(text), str(old), str(new)
    spend(len(text) // budget.READ)
    spend(text.count(old) * (1 + len(new) // budget.MADE))


def _check_paths(others: tuple[Any, ...]) -> None:
    """Refuses paths such as "a.b.c" that are looked up in each item, and are long."""
    if any(isinstance(other, str) and other.count(".") + other.count(",") > MOST_PARTS for other in others):
        raise budget.too_much(f"gives a filter a path of more than {MOST_PARTS} parts")


def _pay_for_sorting(values: Any, *others: Any) -> None:
    for _ in range(len(values).bit_length() if isinstance(values, Sized) else 0):
        weigh(values)


def _check_sum(values: Any, *others: Any) -> None:
    if any(isinstance(other, list | tuple | dict) for other in others):
        raise PreprocessorError("the chat template adds lists with `sum`, which it may not.")


def _pay_for_joining(values: Any, *others: Any) -> None:
    between = max((len(other) for other in others if isinstance(other, str)), default=0)
    spend(len(values) * between // budget.MADE if isinstance(values, Sized) else 0)


def _pay_for_indent(text: Any, *others: Any) -> None:
    check_width(*others)
    width = max((len(other) if isinstance(other, str) else int(other) for other in others), default=0)
    spend(str(text).count("\n") * width // budget.MADE)


def _pay_for_trim(text: Any, *letters: Any) -> None:
    spend(sum(len(str(text)) * len(own) for own in letters if isinstance(own, str)) // budget.READ)


def _check_widths(value: Any, *others: Any) -> None:
    check_width(*others)


PAY_MORE: Mapping[str, Callable[..., None]] = {
    **dict.fromkeys(SORTS, _pay_for_sorting),
    **dict.fromkeys(("batch", "center", "round", "slice", "truncate"), _check_widths),
    "format": lambda form, *values: budget.check_format(str(form), values),
    "indent": _pay_for_indent,
    "join": _pay_for_joining,
    "replace": pay_for_replacing,
    "sum": _check_sum,
    "trim": _pay_for_trim,
}
"""What is paid beside the price of the value and of the arguments."""


def _paid_test(function: Function) -> Function:
    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        spend(CALL + len(args))
        if len(args) > 1:
            for value in args:
                weigh(value)
        elif args and isinstance(args[0], str):
            scan(args[0])
        return function(*args, **kwargs)

    return paid


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON with all letters as they are, unlike Jinja's own filter, which writes it for HTML."""
    parts = [indent, *(separators or ())]
    widths = [len(part) if isinstance(part, str) else part for part in parts if part is not None]
    if any(not isinstance(width, int) or abs(width) > MOST_INDENT for width in widths):
        raise budget.too_much(f"gives tojson an indent or separators of more than {MOST_INDENT} characters")
    if indent is not None:
        for _ in range(MOST_INDENT):
            weigh(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _add(first: Any, *others: Any) -> Any:
    """The sum of all."""
    if type(first) is str and all(type(other) is str for other in others):
        return made("".join((first, *others)))
    for other in others:
        first = made(first + other)
    return first


def _concat(*values: Any) -> str:
    """The texts of all, one after the other."""
    return str(made("".join([value if type(value) is str else str(weigh(value)) for value in values])))


def _cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """A part of a text or list."""
    return made(value[start:stop:step])
