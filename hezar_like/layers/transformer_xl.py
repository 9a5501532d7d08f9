"""Transformer-XL's relative positions (Dai et al., 2019): https://arxiv.org/abs/1901.02860."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention


class TransformerXLAttention(Attention):
    """Attention whose scores also depend on how far behind a query a key is.

    A score is `(q + u) k + (q + v) r`, where `r` is a projected sinusoid of the distance, and `u` and `v` are learned.

    Args:
        width: Size of the hidden states.
        num_heads: Number of heads.
        dropout: Dropout probability on the attention probabilities while training.
        position_dropout: Dropout probability on the sinusoids while training.

    Attributes:
        relative: Projects the sinusoids.
        content_bias: `u`, [heads, channels]; published models share it, and `v`, among all layers.
        position_bias: `v`, [heads, channels].
    """

    def __init__(self, width: int, num_heads: int, *, dropout: float = 0.0, position_dropout: float = 0.0) -> None:
        super().__init__(width, num_heads, dropout=dropout)
        self.relative = nn.Linear(width, width)
        self.content_bias = nn.Parameter(torch.empty(num_heads, self.head_dim))
        self.position_bias = nn.Parameter(torch.empty(num_heads, self.head_dim))
        self.position_dropout = nn.Dropout(position_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Makes the learned biases zero."""
        nn.init.zeros_(self.content_bias)
        nn.init.zeros_(self.position_bias)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        probabilities: list[Tensor] | None,
    ) -> Tensor:
        # Made in every layer: next to their projection, sinusoids cost nothing.
        sines = self.position_dropout(sinusoids(k.size(2), q.size(1) * self.head_dim, q.device).to(q.dtype))
        r = self.relative(sines).view(-1, q.size(1), self.head_dim).transpose(0, 1)
        bias = shift((q + self.position_bias[:, None]) @ r.mT) * self.scale
        if causal:
            mask = torch.ones(q.size(2), k.size(2), dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            bias = bias + mask if mask.is_floating_point() else bias.masked_fill(~mask, float("-inf"))
        return super().attend(q + self.content_bias[:, None], k, v, bias, False, probabilities)


def sinusoids(keys: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the distances keys - 1, ..., 1, 0: [keys, width] float32."""
    frequencies = 10000 ** -(torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(keys - 1, -1, -1.0, device=device)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1)


def shift(scores: Tensor) -> Tensor:
    """Scores by distance to scores by key.

    For keys later than the query, which Transformer-XL itself does not look at, what comes out is of the next query's
    row, as it is in GLM, where texts are read in both directions.

    Args:
        scores: [..., queries, keys], for the distances keys - 1, ..., 0; the queries are the last ones of the keys.

    Returns:
        [..., queries, keys], for the keys in order.
    """
    padded = F.pad(scores, (1, 0)).flatten(-2)
    return padded[..., scores.size(-2) :].reshape(scores.shape)
