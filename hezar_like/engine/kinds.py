"""How the weights of linear layers may lie, and linear layers as operations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "FEW_ROWS",
    "WIDE",
    "Kind",
    "Layer",
    "Projection",
    "Quantization",
    "is_copied",
    "is_known_to_onednn",
    "kind_for",
    "of_run",
]

Layer: TypeAlias = Callable[[Tensor], Tensor]
Kind: TypeAlias = Literal["plain", "packed", "half", "int8", "int4"]
"""How weights lie: as the model has them; in blocks, as oneDNN multiplies; in float16; in int8; in four bits."""
Quantization: TypeAlias = Literal["int8", "int4"]
WIDE: Collection[Kind] = ("half", "int8", "int4")
"""Kinds whose activations are float32, whatever the weights are."""

FEW_ROWS = range(3, 17)
"""For so many rows MKL takes longer than to read the weights, oneDNN does not."""
COPIED_BYTES = 2**27
"""Float32 weights of a stack, or of a last layer, up to this size are copied for few rows; of larger ones a copy would
take too much memory."""

BY_FLOAT16 = ("x86", "fbgemm")
"""What torch may multiply rounded weights by that knows float16; on ARM it has another."""


class Projection(NamedTuple):
    """Linear layers beside each other, as operations.

    Attributes:
        run: [tokens, inputs] to [tokens, outputs].
        add: The same added to another tensor [tokens, outputs], the second argument.
        then: Makes the same with an activation after it.
    """

    run: Layer
    add: Callable[[Tensor, Tensor], Tensor]
    then: Callable[[Layer], Layer]


def kind_for(weight: Tensor, quantize: Quantization | None) -> Kind:
    """How weights of a type lie best on their device."""
    if weight.device.type != "cpu":
        return "plain"
    if quantize is not None:
        return quantize
    if weight.dtype == torch.bfloat16 and is_known_to_onednn(torch.bfloat16):
        return "packed"
    # Where the processor multiplies no bfloat16, torch takes ten times as long for it; float16 has all of its digits.
    # What is beyond its range stays float32.
    multiplied = torch.backends.quantized.engine in BY_FLOAT16
    return "half" if multiplied and weight.dtype in (torch.float16, torch.bfloat16) else "plain"


def is_known_to_onednn(dtype: torch.dtype) -> bool:
    """Whether the processor has instructions for bfloat16 or float16, by oneDNN, which is not in every torch."""
    if not torch._C._has_mkldnn:
        return False
    operations: Any = torch.ops.mkldnn
    is_bfloat16 = dtype == torch.bfloat16
    return bool(operations._is_mkldnn_bf16_supported() if is_bfloat16 else operations._is_mkldnn_fp16_supported())


def is_copied(*weights: Tensor) -> bool:
    """Whether weights that lie as the model has them are copied for few rows."""
    small = sum(weight.numel() * weight.element_size() for weight in weights) <= COPIED_BYTES
    return small and all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)


def of_run(run: Layer) -> Projection:
    """A projection of which nothing is done at once."""
    return Projection(run, lambda x, other: run(x).add_(other), lambda activation: lambda x: activation(run(x)))
