"""Output heads that families share. `out` is always the last layer: the one that depends on the user's labels."""

from __future__ import annotations

from torch import Tensor, nn

from .mlp import ACTIVATIONS


class Pooler(nn.Module):
    """The first token, through a linear layer and tanh (BERT)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to [batch, width]."""
        return self.dense(x[:, 0]).tanh()


class ClassificationHead(nn.Module):
    """The first token, through a dense layer and an activation, to one score per label.

    Args:
        width: Size of the hidden states.
        labels: Number of labels.
        activation: A name in `ACTIVATIONS`.
        dropout: Dropout probability before the last layer.
        dropout_first: Whether dropout also comes before the dense layer.
    """

    def __init__(
        self, width: int, labels: int, *, activation: str = "tanh", dropout: float = 0.0, dropout_first: bool = False
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out = nn.Linear(width, labels)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.dropout_first = dropout_first

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to [batch, labels]."""
        x = x[:, 0]
        x = self.activation(self.dense(self.dropout(x) if self.dropout_first else x))
        return self.out(self.dropout(x))


class TokenHead(nn.Module):
    """One score per label for every token.

    Args:
        width: Size of the hidden states.
        labels: Number of labels.
        dropout: Dropout probability before each layer.
        dense: Whether a dense layer and tanh come first.
    """

    def __init__(self, width: int, labels: int, *, dropout: float = 0.0, dense: bool = False) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width, width) if dense else None
        self.out = nn.Linear(width, labels)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to [batch, length, labels]."""
        if self.dense is not None:
            x = self.dense(self.dropout(x)).tanh()
        return self.out(self.dropout(x))


class MaskFillingHead(nn.Module):
    """One score per token of the vocabulary: dense, activation, norm, projection (BERT).

    Args:
        width: Size of the hidden states.
        vocabulary: Number of tokens.
        activation: A name in `ACTIVATIONS`.
        epsilon: Of the norm.
    """

    def __init__(self, width: int, vocabulary: int, activation: str, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, epsilon)
        self.out = nn.Linear(width, vocabulary)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., vocabulary]."""
        return self.out(self.norm(self.activation(self.dense(x))))
