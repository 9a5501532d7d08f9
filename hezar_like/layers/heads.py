"""Output heads that families share. `out` is always the last layer: the one that depends on the user's labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .mlp import activation_named
from .substitutes import Linear


class Pooler(nn.Module):
    """The first token, through a linear layer and tanh (BERT)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to [batch, width]."""
        return self.dense(x[:, 0]).tanh()


class ClassificationHead(nn.Module):
    """The token that sums up a text, through a dense layer and an activation, to one score per label.

    Args:
        width: Size of the hidden states.
        labels: Number of labels.
        activation: A name in `ACTIVATIONS`; None for no dense layer.
        dropout: Dropout probability before the last layer.
        dropout_first: Whether dropout also comes before the dense layer.
        bias: Whether the last layer has a bias.
    """

    def __init__(
        self,
        width: int,
        labels: int,
        *,
        activation: str | None = "tanh",
        dropout: float = 0.0,
        dropout_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.dense = None if activation is None else nn.Linear(width, width)
        self.out = nn.Linear(width, labels, bias)
        self.activation = activation_named("tanh" if activation is None else activation)
        self.dropout = nn.Dropout(dropout)
        self.dropout_first = dropout_first

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to [batch, labels]; of the tokens the first is used."""
        x = x[:, 0]
        if self.dense is not None:
            x = self.activation(self.dense(self.dropout(x) if self.dropout_first else x))
        return self.out(self.dropout(x))


class LanguageModelHead(nn.Module):
    """One score per token of the vocabulary.

    Args:
        width: Size of the hidden states.
        vocabulary: Number of tokens.
        bias: Whether the projection has a bias.
        scale: What the hidden states are multiplied with before.
        softcap: Scores are kept below it, smoothly (Gemma 2); default: not.
        unused: How many tokens at the end of the vocabulary are none and score minus infinity.
    """

    def __init__(
        self,
        width: int,
        vocabulary: int,
        *,
        bias: bool = False,
        scale: float = 1.0,
        softcap: float | None = None,
        unused: int = 0,
    ) -> None:
        super().__init__()
        self.out = Linear(width, vocabulary, bias)
        self.scale, self.softcap, self.unused = scale, softcap, unused

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., vocabulary]."""
        scores = self.out(x if self.scale == 1.0 else x * self.scale)
        if self.softcap is not None and scores.requires_grad:
            scores = (scores / self.softcap).tanh() * self.softcap
        elif self.softcap is not None:
            scores = scores.div_(self.softcap).tanh_().mul_(self.softcap)
        if self.unused:
            scores = torch.cat(
                (scores[..., : -self.unused], torch.full_like(scores[..., -self.unused :], -torch.inf)), -1
            )
        return scores

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of the scores of all tokens whose label is not -100, without keeping these scores.

        Memory is for some tokens at a time; on a CPU that takes longer. Under autocast it is computed in that type.

        Args:
            x: [..., width].
            labels: [...] int64.

        Returns:
            A scalar in float32.

        Raises:
            ConfigError: When scores are changed after the projection, or torch is older than 2.13.
        """
        if self.softcap is not None or self.unused or not hasattr(F, "linear_cross_entropy"):
            raise ConfigError("fused_loss needs torch 2.13, and a head whose scores are those of its last layer.")
        x = x.flatten(0, -2) * self.scale
        weight: Tensor = self.out.weight
        bias: Tensor | None = self.out.bias
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        options = nn.LinearCrossEntropyOptions()
        loss: Tensor = F.linear_cross_entropy(x, weight, labels.flatten(), linear_bias=bias, options=options)
        return loss.float()


class TokenHead(nn.Module):
    """One score per label for every token.

    Args:
        width: Size of the hidden states.
        labels: Number of labels.
        dropout: Dropout probability before each layer.
        dense: Whether a dense layer and tanh come first.
        bias: Whether the last layer has a bias.
    """

    def __init__(
        self, width: int, labels: int, *, dropout: float = 0.0, dense: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width, width) if dense else None
        self.out = nn.Linear(width, labels, bias)

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
        self.out = Linear(width, vocabulary)
        self.activation = activation_named(activation)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., vocabulary]."""
        return self.out(self.norm(self.activation(self.dense(x))))
