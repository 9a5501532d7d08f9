"""Multi-head attention (Vaswani et al., 2017)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .trace import Trace


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: Size of the hidden states.
        num_heads: Number of heads; each has `width // num_heads` channels.
        bias: Whether the four projections have biases.
        dropout: Dropout probability on the attention probabilities while training.
    """

    def __init__(self, width: int, num_heads: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.q = nn.Linear(width, width, bias)
        self.k = nn.Linear(width, width, bias)
        self.v = nn.Linear(width, width, bias)
        self.out = nn.Linear(width, width, bias)
        self.num_heads = num_heads
        self.dropout = dropout

    def forward(self, x: Tensor, *, mask: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Attends.

        Args:
            x: Hidden states, [batch, length, width].
            mask: Bool, broadcastable to [batch, heads, length, length]; True = look. None: look everywhere.
            trace: Collects the probabilities when it wants them.

        Returns:
            [batch, length, width].
        """
        q, k, v = (
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for project in (self.q, self.k, self.v)
        )
        dropout = self.dropout if self.training else 0.0
        if trace is not None and trace.attentions is not None:
            scores = q @ k.mT * q.size(-1) ** -0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            probabilities = scores.softmax(-1)
            if mask is not None:
                probabilities = probabilities.masked_fill(~mask, 0.0)  # where nothing may be looked at, it is NaN
            trace.attentions.append(probabilities)
            y = F.dropout(probabilities, dropout) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.out(y.transpose(1, 2).flatten(2))


def attention_mask_to_look(attention_mask: Tensor | None) -> Tensor | None:
    """Brings the mask of the model's edge (1 = look) into the form `Attention` takes.

    Args:
        attention_mask: [batch, keys], [batch, queries, keys] or [batch, heads, queries, keys], any dtype; or None.

    Returns:
        Bool, four dimensions; None for None.

    Raises:
        ValueError: For another number of dimensions.
    """
    if attention_mask is None:
        return None
    look = attention_mask.bool()
    if look.ndim == 2:
        return look[:, None, None, :]
    if look.ndim == 3:
        return look[:, None]
    if look.ndim == 4:
        return look
    raise ValueError(f"attention_mask has {look.ndim} dimensions; give [batch, length] or up to 4 dimensions.")
