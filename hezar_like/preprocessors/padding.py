"""Rows of unequal length made equal: as lists, or as tensors."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import require
from .call_options import TensorKind
from .encoded import Side

if TYPE_CHECKING:
    import torch

__all__ = ["pad_rows", "pad_tensor", "padded_length", "to_tensors"]

T = TypeVar("T")


def padded_length(rows: Sequence[Sequence[Any]], length: int | None = None, multiple_of: int | None = None) -> int:
    """The length that rows are padded to: at least `length`, at least the longest, a multiple of `multiple_of`."""
    longest = max(chain(map(len, rows), [length or 0]))
    return -(-longest // multiple_of) * multiple_of if multiple_of else longest


def pad_rows(
    rows: Sequence[Sequence[T]],
    value: T,
    *,
    length: int | None = None,
    multiple_of: int | None = None,
    side: Side = "right",
) -> list[list[T]]:
    """Pads rows to one length.

    Args:
        rows: Lists of different lengths.
        value: What is added.
        length: Length of the result; longer rows make it longer. Default: the longest row.
        multiple_of: The length is rounded up to a multiple of this.
        side: Where the padding goes.
    """
    target = padded_length(rows, length, multiple_of)
    if side == "right":
        return [[*row, *[value] * (target - len(row))] for row in rows]
    return [[*[value] * (target - len(row)), *row] for row in rows]


def pad_tensor(
    rows: Sequence[Sequence[int]],
    value: int,
    *,
    length: int | None = None,
    multiple_of: int | None = None,
    side: Side = "right",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads rows of integers like `pad_rows`, into a tensor.

    Returns:
        The rows [N, L] int64, and where they hold something of the rows [N, L] bool.
    """
    import torch

    target = padded_length(rows, length, multiple_of)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)[:, None]
    places = torch.arange(target)
    mask = places < lengths if side == "right" else places >= target - lengths
    padded = torch.full((len(rows), target), value, dtype=torch.int64)
    flat = array("q", chain.from_iterable(rows))  # many times faster than a tensor of nested lists
    if flat:
        padded[mask] = torch.frombuffer(flat, dtype=torch.int64)
    return padded, mask


def to_tensors(
    columns: Mapping[str, Any], kind: TensorKind, *, keep: Sequence[str] = (), device: str | torch.device | None = None
) -> dict[str, Any]:
    """Turns equal rows into tensors.

    Args:
        columns: Rows [N, L] or values [N] by name.
        kind: What to make.
        keep: Names that stay as they are.
        device: Where torch tensors go.

    Raises:
        MissingDependency: For "numpy", when it is not installed.
    """
    if kind == "list":
        return dict(columns)
    import torch

    if kind == "numpy":
        require("numpy", extra="bench")

    def convert(rows: Any) -> Any:
        tensor = rows if isinstance(rows, torch.Tensor) else torch.tensor(rows)
        return tensor.numpy() if kind == "numpy" else tensor.to(device)

    return {name: rows if name in keep else convert(rows) for name, rows in columns.items()}


def plain_rows(values: Any) -> Any:
    """Arrays and tensors, also inside a list, as lists."""
    if hasattr(values, "tolist"):
        return values.tolist()
    if isinstance(values, int):
        return [values]
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def has_rows(values: Sequence[Any]) -> bool:
    return bool(values) and isinstance(values[0], list | tuple)
