"""What values a config field takes: types from annotations, ranges from `Annotated`."""

from __future__ import annotations

import enum
import math
import operator
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .errors import ConfigError, did_you_mean

__all__ = [
    "Between",
    "Count",
    "Deviation",
    "Epsilon",
    "Indexed",
    "Layers",
    "OneOf",
    "Probability",
    "Size",
    "TokenId",
    "Vocabulary",
    "coerce",
]


@dataclass(frozen=True)
class Between:
    """A closed range for a number."""

    low: float
    high: float

    def check(self, value: float, where: str) -> None:
        if not self.low <= value <= self.high:
            raise ConfigError(f"{where} is {_brief(value)}; it must be between {self.low} and {self.high}.")


@dataclass(frozen=True)
class OneOf:
    """One of some names."""

    choices: Collection[str]

    def check(self, value: str, where: str) -> None:
        if value not in self.choices:
            near = did_you_mean(value[:100], self.choices, listing=20)
            raise ConfigError(f"{where} is {_brief(value)}, which is unknown.{near}")


# The upper ends are far above any published model: they stop a hostile file before it makes us build for an hour.
Size = Annotated[int, Between(1, 2**20)]
Layers = Annotated[int, Between(0, 1000)]
Vocabulary = Annotated[int, Between(1, 10**8)]
Count = Annotated[int, Between(0, 2**31)]
TokenId = Annotated[int, Between(0, 10**8)]
Probability = Annotated[float, Between(0, 1)]
Epsilon = Annotated[float, Between(0, 1)]
Deviation = Annotated[float, Between(0, 100)]


class Indexed(dict[int, Any]):
    """A dict with int keys that also takes any integer-like key, such as a 0-dimensional tensor."""

    def __missing__(self, key: Any) -> Any:
        try:
            index = operator.index(key)
        except TypeError:
            raise KeyError(key) from None
        if index not in self:
            raise KeyError(key)
        return self[index]


def coerce(value: Any, annotation: Any, where: str) -> Any:
    """Checks a value against a field's annotation and brings containers into their declared form.

    Nothing is guessed: a bool is not an int, the string "8" is not 8, NaN and infinity are not floats. An int is taken
    for a float, a list for a tuple, and digit strings for the int keys of a dict, because YAML and JSON need that.

    Args:
        value: What the user or a file gave.
        annotation: The field's resolved type.
        where: `Class.field`, for the message.

    Returns:
        The value to store.

    Raises:
        ConfigError: When it does not fit.
    """
    origin = get_origin(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar | str):
        return value
    if origin is Annotated:
        base, *checks = get_args(annotation)
        value = coerce(value, base, where)
        for check in checks:
            if value is not None and hasattr(check, "check"):
                check.check(value, where)
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, get_args(annotation), where)
    if origin is Literal:
        if value not in get_args(annotation) or isinstance(value, bool) != any(
            value is choice for choice in get_args(annotation) if isinstance(choice, bool)
        ):
            known = ", ".join(map(repr, get_args(annotation)))
            raise ConfigError(f"{where} is {_show(value)}; it must be one of {known}.")
        return value
    if isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset):
        return _coerce_sequence(value, origin, get_args(annotation), where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _coerce_mapping(value, get_args(annotation), where)
    if isinstance(annotation, type):
        return _coerce_plain(value, annotation, where)
    return value  # an annotation that says nothing checkable, such as Callable


def _coerce_plain(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, enum.Enum) and kind in (str, int):
        value = value.value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1023 else math.inf
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} is {value!r}; it must be a finite number.")
    if issubclass(kind, enum.Enum) and not isinstance(value, kind):
        try:
            return kind(value)
        except ValueError:
            known = [str(member.value) for member in kind]
            near = did_you_mean(value[:100] if isinstance(value, str) else "", known)
            raise ConfigError(f"{where} is {_show(value)}, which is unknown.{near}") from None
    if isinstance(value, Mapping) and hasattr(kind, "from_dict"):
        return kind.from_dict(value)
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return kind(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
        raise ConfigError(f"{where} is {_show(value)}; it must be {_describe(kind)}.")
    return value


def _coerce_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    problems = []
    for choice in choices:
        if choice is not type(None):
            try:
                return coerce(value, choice, where)
            except ConfigError as problem:
                problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    raise ConfigError(f"{where} is {_show(value)}; it must be {' or '.join(map(_describe, choices))}.")


def _coerce_sequence(value: Any, origin: type, arguments: tuple[Any, ...], where: str) -> Any:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigError(f"{where} is {_show(value)}; it must be a list.")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ConfigError(f"{where} has {len(value)} items; it must have {len(arguments)}.")
        kinds = list(arguments)
    else:
        kinds = [arguments[0] if arguments else Any] * len(value)
    items = [coerce(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds, strict=True))]
    return origin(items)


def _coerce_mapping(value: Any, arguments: tuple[Any, ...], where: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {_show(value)}; it must be a mapping.")
    key_kind, item_kind = arguments or (Any, Any)
    result: dict[Any, Any] = Indexed() if key_kind is int else {}
    for key, item in value.items():
        if key_kind is int and isinstance(key, str) and key.isdecimal() and len(key) < 10:
            key = int(key)
        key = coerce(key, key_kind, f"{where}: key {key!r}")
        if key in result:
            raise ConfigError(f"{where} has the key {key!r} twice.")
        result[key] = coerce(item, item_kind, f"{where}[{key!r}]")
    return result


def _show(value: Any) -> str:
    return f"{_brief(value)} ({type(value).__name__})"


def _brief(value: Any) -> str:
    """A value on one short line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write out an integer of more than 4300 digits
        return "a huge number"
    return text if len(text) <= 80 else text[:77] + "..."


def _describe(kind: Any) -> str:
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
    try:
        return names[kind]
    except (KeyError, TypeError):
        if get_origin(kind) is Annotated:
            return _describe(get_args(kind)[0])
        if get_origin(kind) is Literal:
            return " or ".join(map(repr, get_args(kind)))
        return f"a {getattr(kind, '__name__', kind)}"
