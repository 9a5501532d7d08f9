"""Whether weights are still those that something was made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from typing import Any
from weakref import ref

from torch import Tensor

__all__ = ["SeenWeights"]

WORDS: Mapping[int, Any] = {1: c_uint8, 2: c_uint16, 4: c_uint32, 8: c_uint64}
"""Integers by their number of bytes."""


class SeenWeights:
    """Weights as they are now. They are not kept, so that memory of replaced ones is free.

    What is changed through `.data`, or in inference mode, torch does not count as a change; that is noticed where a
    number of a matrix is another, the one in the middle.

    Args:
        weights: The weights; None for one that is not there.
    """

    def __init__(self, weights: Iterable[Tensor | None]) -> None:
        self._seen = [None if weight is None else (ref(weight), _facts(weight)) for weight in weights]

    def are(self, weights: Sequence[Tensor | None]) -> bool:
        """Whether these are the same, unchanged."""
        # Another weight may come to lie where one was that is gone: it must be the same object too.
        return len(self._seen) == len(weights) and all(
            weight is None if seen is None else weight is not None and seen[0]() is weight and seen[1] == _facts(weight)
            for seen, weight in zip(self._seen, weights, strict=True)
        )


def _facts(weight: Tensor) -> tuple[Any, ...]:
    version = 0 if weight.is_inference() else weight._version
    place, number = weight.data_ptr(), 0
    if place and weight.ndim == 2 and weight.is_cpu and weight.is_floating_point():
        size = weight.element_size()
        middle = weight.numel() // 2 if weight.is_contiguous() else 0  # of others the first is sure to lie there
        number = WORDS[size].from_address(place + middle * size).value  # torch would take ten times as long
    return place, weight.dtype, version, number
