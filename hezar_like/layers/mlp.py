"""Position-wise feed-forward layers and their activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fields import OneOf

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_python": F.gelu,  # what transformers calls it where "gelu" is the tanh form
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
"""Activation functions under the names configs give them."""


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """An activation by its name in `ACTIVATIONS`.

    Raises:
        ConfigError: For a name that is not there.
    """
    OneOf(ACTIVATIONS).check(name, "activation")
    return ACTIVATIONS[name]


class MLP(nn.Module):
    """Two linear layers around an activation, or three, where a gate is multiplied in (Shazeer, 2020).

    Args:
        width: Size of the hidden states.
        hidden: Size in between.
        activation: A name in `ACTIVATIONS`; of the gate, where there is one.
        gated: Whether what goes up is multiplied with an activated gate: https://arxiv.org/abs/2002.05202.
        bias: Whether the layers have biases.
        out_width: Size of what is returned; default: `width`.
        dropout: Dropout probability in between, while training.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        *,
        gated: bool = False,
        bias: bool = True,
        out_width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias) if gated else None
        self.up = nn.Linear(width, hidden, bias)
        self.down = nn.Linear(hidden, out_width or width, bias)
        self.activation = activation_named(activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., width]."""
        x = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        return self.down(self.dropout(x))
