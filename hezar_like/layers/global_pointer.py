"""GlobalPointer (Su et al., 2022): https://arxiv.org/abs/2208.03054. A score for every span, so that spans may nest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .embeddings import ascending_positions
from .rotary import Rotary, rotate

NO_SPAN = -1e12
"""Added, before scaling, to the scores of what is no span."""


class GlobalPointerHead(nn.Module):
    """One score per label for every span, from its first and its last token and the distance between them.

    Args:
        width: Size of the hidden states.
        labels: Number of labels.
        inner_dim: Channels of the queries and keys of each label; even.
        dropout: Dropout probability before the layer.
    """

    def __init__(self, width: int, labels: int, inner_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.out = nn.Linear(width, labels * 2 * inner_dim)
        self.dropout = nn.Dropout(dropout)
        self.labels, self.inner_dim = labels, inner_dim
        self.rotary = Rotary(inner_dim, interleaved=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores spans.

        Args:
            x: Hidden states, [batch, length, width].
            mask: Which tokens are no padding, [batch, length] bool; default: all.

        Returns:
            Float32, [batch, labels, length, length]; the first token of a span by the last. What is no span, because it
            ends before it starts or touches padding, has a very low score.
        """
        pairs = self.out(self.dropout(x)).unflatten(-1, (self.labels, 2, self.inner_dim))
        q, k = pairs.permute(3, 0, 2, 1, 4)
        rotation = self.rotary(ascending_positions(x))
        scores = (rotate(q, rotation) @ rotate(k, rotation).mT).float()
        backwards = torch.ones(x.size(1), x.size(1), dtype=torch.bool, device=x.device).tril(-1)
        if mask is not None:
            # A span that starts in padding ends there, or later: in padding before the text.
            spans = mask[:, None, :] & (mask[:, :, None] | backwards)
            scores = scores.masked_fill(~spans[:, None], NO_SPAN)
        return (scores + backwards * NO_SPAN) * self.inner_dim**-0.5


def multilabel_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy for any number of true classes, each of which should score above zero and all others below.

    From Su et al., 2022. With one true class and a constant score it is the common one.

    Args:
        scores: [..., classes].
        targets: 1 where a class is true, else 0; of the same shape.

    Returns:
        The mean, a scalar.
    """
    true = targets.bool()
    zero = scores.new_zeros(*scores.shape[:-1], 1)
    above = torch.cat((scores.masked_fill(true, -torch.inf), zero), -1).logsumexp(-1)
    below = torch.cat((-scores.masked_fill(~true, torch.inf), zero), -1).logsumexp(-1)
    return (above + below).mean()
