"""Input embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextEmbedding(nn.Module):
    """Token vectors, plus learned positions, plus segment types, normed.

    Args:
        vocabulary: Number of tokens.
        width: Size of the vectors.
        positions: Number of learned positions; 0 for none.
        types: Number of segment types; 0 for none.
        norm: Applied to the sum.
        dropout: Dropout probability after the norm.
        padding: The token whose vector starts as zero and is not trained.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        positions: int = 0,
        types: int = 0,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=padding)
        self.positions = nn.Embedding(positions, width) if positions else None
        self.types = nn.Embedding(types, width) if types else None
        self.norm = norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Embeds.

        Args:
            tokens: Token ids, [batch, length] int64; or token vectors, [batch, length, width].
            positions: Indices into the learned positions, broadcastable to [batch, length].
            types: Segment types, [batch, length] int64; zeros when left out.

        Returns:
            [batch, length, width].
        """
        x = tokens if tokens.is_floating_point() else self.tokens(tokens)
        if self.types is not None:
            x = x + (self.types.weight[0] if types is None else self.types(types))
        if self.positions is not None:
            assert positions is not None
            x = x + self.positions(positions)
        if self.norm is not None:
            x = self.norm(x)
        result: Tensor = self.dropout(x)
        return result


def ascending_positions(tokens: Tensor) -> Tensor:
    """0, 1, 2, ... for every row: [1, length] int64."""
    return torch.arange(tokens.size(1), device=tokens.device)[None]
