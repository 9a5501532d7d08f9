"""Norms as operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .kinds import WIDE, Kind, Layer

__all__ = ["normed"]


def normed(norm: nn.Module | None, kind: Kind) -> Layer:
    """A norm, whose weights stay as they are; where there is none, nothing."""
    if norm is None:
        return lambda x: x
    if type(norm) is not nn.LayerNorm:
        # Weights of float64 would make activations of it.
        return (lambda x: norm.forward(x).to(x.dtype)) if kind in WIDE else norm.forward
    weights: Mapping[str, Any] = norm._parameters
    if kind in WIDE:
        weights = {name: None if weight is None else weight.float() for name, weight in weights.items()}
    weight, bias, shape, epsilon = weights["weight"], weights["bias"], norm.normalized_shape, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, epsilon)
