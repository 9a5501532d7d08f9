"""Learned prompts in place of tokens (P-tuning; Liu et al., 2021): https://arxiv.org/abs/2103.10385."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class PromptEncoder(nn.Module):
    """Vectors for some places of every input, through an LSTM in both directions and an MLP, the MLP, or as they are.

    Args:
        length: Number of vectors.
        width: Size of the vectors.
        kind: What they go through: "lstm" (and the MLP), "mlp" or "none".
    """

    def __init__(self, length: int, width: int, kind: Literal["lstm", "mlp", "none"]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(length, width)
        lstm = kind == "lstm"
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True) if lstm else None
        self.up = None if kind == "none" else nn.Linear(2 * width if lstm else width, width)
        self.down = None if kind == "none" else nn.Linear(width, width)

    def forward(self) -> Tensor:
        """[length, width]."""
        x = self.tokens.weight
        if self.lstm is not None:
            x = self.lstm(x[None])[0][0]
        if self.up is not None and self.down is not None:
            x = self.down(self.up(x).relu())
        return x


def insert(prompts: Tensor, x: Tensor, places: Tensor) -> Tensor:
    """Puts vectors in the place of others.

    Args:
        prompts: [count, width].
        x: [batch, length, width].
        places: For each of `prompts` an index into the length, [count] or [batch, count] int64.

    Returns:
        A new [batch, length, width].

    Raises:
        ValueError: When there are not as many places as vectors.
    """
    if places.size(-1) != len(prompts):
        raise ValueError(f"prompt_pos has {places.size(-1)} places, but this model has {len(prompts)} prompt vectors.")
    rows = places.expand(len(x), -1)[..., None].expand(-1, -1, x.size(-1))
    return x.scatter(1, rows, prompts.to(x.dtype).expand(len(x), -1, -1))
