"""Whether weights are still those that something was made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import ref

from torch import Tensor

__all__ = ["SeenWeights"]


class SeenWeights:
    """Weights as they are now. They are not kept, so that memory of replaced ones is free.

    What is changed through `.data`, or in inference mode, torch does not count as a change.

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
    return weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version
