"""Options of `predict` find the method that takes them by their name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import OptionError, did_you_mean

__all__ = ["accepted", "check_positive", "names_of_parameters", "route"]


ELSEWHERE: Mapping[str, str] = {
    "beam_size": "num_beams", "initial_prompt": "prompt", "input_max_length": "max_input_length",
    "max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "n": "num_return_sequences",
    "out_max_length": "max_new_tokens", "stop_strings": "stop", "stop_token_ids": "eos_token_id",
    "word_timestamps": "return_timestamps",
}  # fmt: skip
"""What options are called that other systems call otherwise, and that no spelling tells."""


def check_positive(name: str, value: object, alternative: str = "") -> None:
    """Checks an option that is a number of things.

    Args:
        name: The option.
        value: What was given.
        alternative: What else it may be, for the message.

    Raises:
        OptionError: When it is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{name} is {value!r}; it must be a positive integer{alternative}.")


def accepted(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values a function takes by name; all of them when it has `**kwargs`."""
    names = names_of_parameters(function)
    return dict(values) if names is None else {key: value for key, value in values.items() if key in names}


def names_of_parameters(function: Callable[..., Any]) -> frozenset[str] | None:
    """What a function takes by name; None for one that takes any, with `**kwargs`."""
    parameters = _parameters(function)
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else frozenset(p.name for p in parameters)


_known: WeakKeyDictionary[Callable[..., Any], list[inspect.Parameter]] = WeakKeyDictionary()
"""The parameters of what methods are made of, `self` left out: to find them takes as long as a small layer."""


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    if not inspect.ismethod(function) or not inspect.isfunction(function.__func__):
        return list(inspect.signature(function).parameters.values())
    if function.__func__ not in _known:
        _known[function.__func__] = list(inspect.signature(function).parameters.values())
    return _known[function.__func__]


def route(
    options: Mapping[str, Any],
    preprocess: Callable[..., Any],
    run: Callable[..., Any],
    *others: Callable[..., Any],
    only: Collection[str] | None = None,
    also: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Gives every option to all of the steps that have a parameter of that name.

    The first parameter of each is its input and is never an option.

    Args:
        options: By name.
        preprocess: The first step.
        run: The second.
        *others: Those after it.
        only: The options of `run`; None for all of its parameters.
        also: More names to suggest for one that nobody takes.

    Returns:
        The options of each.

    Raises:
        OptionError: For an option nobody takes.
    """
    functions = (preprocess, run, *others)
    taken: list[dict[str, Any]] = [{} for _ in functions]
    names: set[str] = set()
    open_ended = []
    for function, own in zip(functions, taken, strict=True):
        parameters = _parameters(function)[1:]
        keywords = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"batch"}
        if function is run and only is not None:
            keywords, parameters = set(only), []
        names |= keywords
        own.update({key: value for key, value in options.items() if key in keywords})
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            open_ended.append(own)
    for key in options.keys() - names:
        if not open_ended:
            known = names.union(also)
            other = ELSEWHERE.get(key)
            said = f" Did you mean {other!r}?" if other in known else did_you_mean(key, known)
            raise OptionError(f"predict has no option {key!r}.{said}")
        for own in open_ended:
            own[key] = options[key]
    return taken
