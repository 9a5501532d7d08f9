"""Random weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def initialize(module: nn.Module, std: float) -> None:
    """Fills every parameter: linear and embedding weights as BERT did, other layers as torch does.

    Args:
        module: Whose parameters, and those of all modules inside, are filled.
        std: Standard deviation of linear and embedding weights; biases and the padding token become zero.

    Raises:
        TypeError: When a module has parameters of its own and no `reset_parameters` to fill them.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(0.0, std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.zero_()
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()
        elif callable(reset := getattr(part, "reset_parameters", None)):
            reset()
        elif next(part.parameters(recurse=False), None) is not None:
            raise TypeError(f"{type(part).__name__} has parameters; give it a reset_parameters() that fills them.")
