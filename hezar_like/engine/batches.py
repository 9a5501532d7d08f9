"""Many inputs, cut into batches of similar length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from ..paths import shortened

__all__ = ["Batch", "plan", "windows"]

T = TypeVar("T")

# Tokens in one batch, padding counted, when the user names no batch size. On a CPU, few: larger batches gain nothing
# there and take more memory. On an accelerator, enough to keep it busy.
TOKENS_PER_BATCH_ON_CPU = 1024
TOKENS_PER_BATCH = 16384


class Batch(Mapping[str, Tensor], ABC):
    """Model inputs that know which user inputs they stand for, so that they can be cut into smaller batches.

    The mapping holds what `forward` takes. One input may have several rows (windows of a long text).
    """

    @property
    @abstractmethod
    def lengths(self) -> list[list[int]]:
        """For each input, the length of each of its rows."""

    @property
    @abstractmethod
    def rows(self) -> list[slice]:
        """For each input, its rows in the tensors."""

    @abstractmethod
    def select(self, inputs: Sequence[int]) -> Self:
        """The batch of some of its inputs, in the given order."""

    def to(self, device: torch.device) -> Mapping[str, Any]:
        """What the model is given, on its device."""
        return {key: value.to(device) for key, value in self.items()}


def plan(lengths: Sequence[Sequence[int]], batch_size: int | None, *, on_cpu: bool = True) -> list[list[int]]:
    """Groups inputs of similar length.

    Args:
        lengths: For each input, the lengths of its rows.
        batch_size: The most rows in a batch; None: as many as fit a budget of padded tokens.
        on_cpu: Which budget.

    Returns:
        For each batch the indices of its inputs. An input's rows stay together.
    """
    budget = TOKENS_PER_BATCH_ON_CPU if on_cpu else TOKENS_PER_BATCH
    order = sorted(range(len(lengths)), key=lambda i: max(lengths[i], default=0), reverse=True)
    batches: list[list[int]] = []
    rows = longest = 0
    for i in order:
        if batches and batches[-1]:
            more = rows + len(lengths[i])
            full = more > batch_size if batch_size is not None else more * longest > budget
            if not full:
                batches[-1].append(i)
                rows = more
                continue
        batches.append([i])
        rows, longest = len(lengths[i]), max(lengths[i], default=0)
    return batches


def windows(inputs: Iterable[T], size: int, first: int | None = None) -> Iterator[list[T]]:
    """Lists of up to `size` inputs, the first of up to `first`, read as they are needed.

    An error of the iterator says at which input it came.
    """
    source = _numbered(inputs)
    chunk = list(islice(source, min(first or size, size)))
    while chunk:
        yield chunk
        chunk = list(islice(source, size))


def _numbered(inputs: Iterable[T]) -> Iterator[T]:
    try:
        source = iter(inputs)
    except TypeError:
        kind = type(inputs).__name__
        raise InputError(f"the inputs are {shortened(inputs)} ({kind}), which has no items; give a list.") from None
    for index in count():
        try:
            item = next(source)
        except StopIteration:
            return
        except Exception as error:
            error.add_note(f"raised by the iterator of inputs at item {index}")
            raise
        yield item


def by_input(outputs: Any, rows: Sequence[slice]) -> list[Any]:
    """For each input its rows of everything a forward returned; an input with one row has no dimension of rows."""

    def part(value: Any, own: slice) -> Any:
        if isinstance(value, Mapping):
            return {key: part(item, own) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return tuple(part(item, own) for item in value)
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return value[own.start] if own.stop - own.start == 1 else value[own]

    return [part(outputs, own) for own in rows]


def unbatch(results: Any, count: int) -> list[Any]:
    """One result per input from what a user's own `post_process` or `forward` returns.

    Raises:
        ValueError: When it does not hold one result for each input.
    """
    if isinstance(results, Mapping):
        columns = {key: unbatch(value, count) for key, value in results.items()}
        return [{key: column[i] for key, column in columns.items()} for i in range(count)]
    if isinstance(results, tuple) and all(isinstance(t, Tensor) and t.ndim and len(t) == count for t in results):
        return [tuple(t[i] for t in results) for i in range(count)]  # several outputs, such as one of each layer
    rows = results.ndim > 0 if isinstance(results, Tensor) else isinstance(results, list | tuple)
    if rows and len(results) == count:
        return list(results)
    size = f" of length {len(results)}" if hasattr(results, "__len__") else ""
    raise ValueError(
        f"the model returned a {type(results).__name__}{size} for {count} inputs. Return one result for each from "
        "post_process; without post_process, read long texts with long_text='truncate'."
    )
