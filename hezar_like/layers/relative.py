"""T5's relative positions (Raffel et al., 2019): https://arxiv.org/abs/1910.10683."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RelativeBias(nn.Module):
    """A learned bias on attention scores for each bucket of distances and each head.

    Args:
        num_heads: Number of heads.
        num_buckets: Number of buckets; half of them hold one distance each, the others ever more.
        max_distance: From where on all distances share the last bucket.
        bidirectional: Whether later keys have buckets of their own; else they share the one for distance 0.
    """

    def __init__(
        self, num_heads: int, num_buckets: int = 32, max_distance: int = 128, *, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(num_buckets, num_heads)
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional

    def buckets(self, behind: Tensor) -> Tensor:
        """The bucket of how far each key is behind its query, of the same shape, int64; below 0 it is ahead."""
        count = self.num_buckets // 2 if self.bidirectional else self.num_buckets
        exact = count // 2
        distance = behind.abs()
        # A logarithm that would round up to the number of buckets stays in the last.
        spread = (distance.float() / exact).log() / math.log(self.max_distance / exact)
        far = exact + (spread.clamp(0, 0.9999) * (count - exact)).long()
        bucket = torch.where(distance < exact, distance, far)
        return bucket + (behind < 0) * count if self.bidirectional else bucket.masked_fill(behind < 0, 0)

    def forward(self, queries: int, keys: int) -> Tensor:
        """The bias of each pair, [1, heads, queries, keys]; the queries are the last ones of the keys."""
        positions = torch.arange(keys, device=self.table.weight.device)[None]
        return self.between(positions[:, keys - queries :], positions)

    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The bias between positions, [batch, queries] and [batch, keys] int64: [batch, heads, queries, keys]."""
        bias: Tensor = self.table(self.buckets(queries[:, :, None] - keys[:, None, :]))
        return bias.permute(0, 3, 1, 2)
