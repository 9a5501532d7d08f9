"""Linear layers as operations on weights that lie as the hardware likes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .copies import copied
from .kinds import Kind, Layer, Projection, of_run
from .rounded import in_float16, in_four_bits, in_int8

__all__ = ["plain", "projection"]

SMALL = 2**16
"""A matrix of up to so many numbers is multiplied with in less time than the call takes."""
BY_ROW = (torch.float32, torch.bfloat16)
"""Types of which torch multiplies a matrix with one row as fast as it is read."""
TURNED_ROWS = range(5, 17) if torch.cpu._is_avx512_supported() else range(0)
"""For so many rows it is the weight that is multiplied with them: with AVX2, that takes twice the time."""


def projection(kind: Kind, *layers: nn.Linear) -> Projection:
    """Linear layers with the same inputs, beside each other; for `plain` one."""
    kinds: Mapping[Kind, Callable[..., Projection]] = {
        "plain": lambda layer: plain(layer.weight, layer.bias), "packed": _packed, "half": in_float16,
        "int8": in_int8, "int4": in_four_bits,
    }  # fmt: skip
    return kinds[kind](*layers)


def plain(weight: Tensor, bias: Tensor | None) -> Projection:
    """Multiplies with a weight, [outputs, inputs], as it is."""
    columns = weight.t()
    run: Layer = partial(torch.mm, mat2=columns) if bias is None else _added(bias, columns)
    if weight.device.type == "cpu" and weight.dtype in BY_ROW and weight.numel() > SMALL:
        run = _of_large(weight, bias, run)
    if bias is not None:
        return of_run(run)
    return of_run(run)._replace(add=lambda x, other: torch.addmm(other, x, columns))


def _added(bias: Tensor, columns: Tensor) -> Layer:
    row = bias[None]
    return lambda x: torch.addmm(row, x, columns)


def _of_large(weight: Tensor, bias: Tensor | None, usual: Layer) -> Layer:
    """Multiplies one row, or a few, with a large weight in another way, which takes MKL less time."""
    turned = TURNED_ROWS if weight.stride(1) == 1 and weight.dtype == torch.float32 else ()
    column = None if bias is None else bias[:, None]

    def run(x: Tensor) -> Tensor:
        rows = x.size(0) if x.dtype == weight.dtype else 0  # autocast changes types for the usual way only
        if rows == 1:
            return (torch.mv(weight, x[0]) if bias is None else torch.addmv(bias, weight, x[0]))[None]
        if rows in turned:
            y = torch.mm(weight, x.t()) if column is None else torch.addmm(column, weight, x.t())
            return y.t().contiguous()
        return usual(x)

    return run


POST_OPERATIONS: tuple[tuple[Any, tuple[str, str]], ...] = (
    (F.gelu, ("gelu", "none")),
    (partial(F.gelu, approximate="tanh"), ("gelu", "tanh")),
    (F.relu, ("relu", "")),
    (F.silu, ("swish", "")),
)
"""Activations that oneDNN computes while it writes, with its names for them."""


def _post_operation(activation: Any) -> tuple[str, str] | None:
    """OneDNN's names for an activation, if it knows it."""

    def parts(function: Any) -> tuple[Any, Any]:
        return (function.func, function.keywords) if isinstance(function, partial) else (function, {})

    return next((names for known, names in POST_OPERATIONS if parts(known) == parts(activation)), None)


def _packed(*layers: nn.Linear) -> Projection:
    operation: Any = torch.ops.mkldnn._linear_pointwise.default
    binary: Any = torch.ops.mkldnn._linear_pointwise.binary

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 64), bias

    weight, bias = copied("packed", layers, pack)

    def then(activation: Layer) -> Layer:
        names = _post_operation(activation)
        if names is None:
            return lambda x: activation(operation(x, weight, bias, "none", [], ""))
        return lambda x: operation(x, weight, bias, names[0], [], names[1])

    return Projection(
        lambda x: operation(x, weight, bias, "none", [], ""),
        lambda x, other: binary(x, other, weight, bias, "add"),
        then,
    )
