"""Dynamic time warping: which of two sequences' steps belong together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["first_columns", "smoothed"]


def first_columns(costs: Tensor) -> list[int]:
    """Where each row begins on the cheapest path from the first corner of a table to the last.

    The path goes right, down, or both at once. A row is done in a few operations: whoever walks right from column k to
    column j pays the difference of two sums, so that the best k for each j is a running minimum.

    Args:
        costs: [rows, columns], at least one of each.

    Returns:
        For each row its first column on the path; they never fall.
    """
    costs = costs.double()
    sums = costs.cumsum(1)
    before = sums - costs
    total = sums[0]
    entries, diagonal = [torch.zeros_like(total, dtype=torch.int64)], [torch.zeros_like(total, dtype=torch.bool)]
    for row in range(1, len(costs)):
        aside = F.pad(total[:-1], (1, 0), value=float("inf"))
        best = (torch.minimum(aside, total) - before[row]).cummin(0)
        diagonal.append(aside <= total)
        entries.append(best.indices)
        total = best.values + sums[row]
    column, columns = costs.size(1) - 1, [0] * len(costs)
    for row in range(len(costs) - 1, 0, -1):
        column = columns[row] = int(entries[row][column])
        column -= int(diagonal[row][column])
    return columns


def smoothed(values: Tensor, width: int) -> Tensor:
    """The median of each value's neighbourhood of `width` (odd) along the last dimension, mirrored at the ends."""
    reach = width // 2
    if values.size(-1) <= reach:
        return values
    padded = F.pad(values.flatten(0, -2)[None], (reach, reach), mode="reflect")[0].view(*values.shape[:-1], -1)
    length = values.size(-1)
    shifted = [padded[..., place : place + length] for place in range(width)]
    # The largest of all is carried to the end, again and again, until the middle one is there.
    for last in range(width - 1, reach - 1, -1):
        for place in range(last):
            low, high = shifted[place], shifted[place + 1]
            shifted[place], shifted[place + 1] = torch.minimum(low, high), torch.maximum(low, high)
    return shifted[reach]
