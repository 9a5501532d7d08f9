"""The values that the options of a tokenizer call take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from ..errors import OptionError, did_you_mean
from .encoded import Strategy

__all__ = ["TensorKind", "padding_strategy", "tensor_kind", "truncation_strategy"]

T = TypeVar("T")
TensorKind = Literal["list", "numpy", "torch"]
TENSORS: Mapping[Any, TensorKind] = {
    None: "list", "list": "list", "np": "numpy", "numpy": "numpy", "pt": "torch", "torch": "torch",
}  # fmt: skip
TRUNCATIONS: Mapping[Any, Strategy | None] = {
    None: None, False: None, "no_truncation": None, "do_not_truncate": None, True: "longest_first",
    "longest_first": "longest_first", "only_first": "only_first", "only_second": "only_second",
}  # fmt: skip
PADDINGS: Mapping[Any, Literal["longest", "max_length"] | None] = {
    None: None, False: None, "no_padding": None, "do_not_pad": None, True: "longest",
    "longest": "longest", "max_length": "max_length",
}  # fmt: skip


def tensor_kind(return_tensors: str | None) -> TensorKind:
    """What `return_tensors` asks for.

    Raises:
        OptionError: When it is unknown.
    """
    return _choice(TENSORS, return_tensors, "return_tensors")


def truncation_strategy(truncation: bool | str | None) -> Strategy | None:
    """What `truncation` asks for; None for no truncation.

    Raises:
        OptionError: When it is unknown.
    """
    return _choice(TRUNCATIONS, truncation, "truncation")


def padding_strategy(padding: bool | str | None) -> Literal["longest", "max_length"] | None:
    """What `padding` asks for; None for no padding.

    Raises:
        OptionError: When it is unknown.
    """
    return _choice(PADDINGS, padding, "padding")


def _choice(choices: Mapping[Any, T], value: Any, option: str) -> T:
    if not isinstance(value, str | bool | None) or value not in choices:
        raise OptionError(f"{option}={value!r} is unknown.{did_you_mean(value, map(str, choices))}")
    return choices[value]
