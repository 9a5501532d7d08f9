"""Work that is done in smaller parts where memory runs out."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

import torch

from ..errors import OutOfMemory, one_line

__all__ = ["in_parts_that_fit", "naming_memory"]

T = TypeVar("T")

logger = logging.getLogger(__name__)
_told: WeakSet[Any] = WeakSet()
"""The models for which a smaller batch was tried, which is said once."""
CPU_ALLOCATOR = re.compile(r"DefaultCPUAllocator: (can't allocate memory|not enough memory)")
"""What torch says when the CPU has no memory left, for which it has no class of errors."""


def in_parts_that_fit(model: object, numbers: Sequence[int], run: Callable[[slice], list[T]]) -> list[T]:
    """Runs something for inputs, all at once or, where memory does not suffice, in parts half as large, and so on.

    Nothing that a try allocated is kept when the next one begins.

    Args:
        model: What runs; of each it is said once that a smaller batch is tried.
        numbers: Of the inputs, for errors.
        run: Takes a range of the inputs, and returns a result for each. It may be called again for some of them.

    Returns:
        The results, in order.

    Raises:
        OutOfMemory: When memory does not suffice for one input; its index is the input's number.
    """
    results: list[T] = []
    done, size = 0, len(numbers)
    while done < len(numbers):
        size = min(size, len(numbers) - done)
        try:
            with naming_memory(numbers[done] if size == 1 else None):
                results += run(slice(done, done + size))
            done += size
        except OutOfMemory as error:
            if size == 1 or error.index is not None:
                raise
            count, size = size, size // 2
            if model not in _told:
                _told.add(model)
                logger.warning(
                    f"Memory ran out for a batch of {count}, so smaller ones are tried; this is said once. "
                    f"Use batch_size={size} or less to spare what the failed tries cost."
                )
    return results


@contextmanager
def naming_memory(index: int | None = None) -> Iterator[None]:
    """Turns what torch and Python raise when there is no memory left into one error of ours.

    Args:
        index: The number of the input that is worked on; None when there may be several.

    Raises:
        OutOfMemory: In their place.
    """
    try:
        yield
    except OutOfMemory:  # has its name
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not CPU_ALLOCATOR.search(str(error)):
            raise
        said = one_line(error, most=200).rstrip(". ") or type(error).__name__
        raise OutOfMemory(
            f"{'the batch ' if index is None else ''}needs more memory than is free ({said}). "
            "Use fewer inputs at once, shorter ones, or a model with dtype='bfloat16'.",
            index,
        ) from error
