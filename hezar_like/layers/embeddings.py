"""Input embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenVectors(nn.Embedding):
    """A vector for each token.

    Args:
        vocabulary: Number of tokens.
        width: Size of the vectors.
        padding: The token whose vector starts as zero and is not trained.
        scale: What vectors are multiplied with, in their own dtype.
    """

    def __init__(self, vocabulary: int, width: int, padding: int | None = None, scale: float = 1.0) -> None:
        super().__init__(vocabulary, width, padding_idx=padding)
        self.scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [...] int64 to [..., width]."""
        x = super().forward(tokens)
        return x if self.scale == 1.0 else x * torch.tensor(self.scale, dtype=x.dtype)


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
        scale: What token vectors are multiplied with.
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
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.tokens = TokenVectors(vocabulary, width, padding, scale)
        self.positions = nn.Embedding(positions, width) if positions else None
        self.types = nn.Embedding(types, width) if types else None
        self.norm = norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Embeds.

        Args:
            tokens: Token ids, [batch, length] int64; or token vectors as `tokens` gives them, [batch, length, width].
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
        return self.dropout(x) if self.training else x


def ascending_positions(tokens: Tensor) -> Tensor:
    """0, 1, 2, ... for every row: [1, length] int64."""
    return torch.arange(tokens.size(1), device=tokens.device)[None]
