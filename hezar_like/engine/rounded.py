"""Linear layers whose weights are rounded: to float16, to 8 bits, or to four."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .copies import copied
from .kinds import Layer, Projection, of_run
from .memory import ROWS, read_by_parts

__all__ = ["in_float16", "in_four_bits", "in_int8"]

GROUPS = (64, 32)
"""Of four bits, so many neighbours among the inputs share a scale and a zero: the first of these that divides them."""

SMALLEST, LARGEST = 2.0**-15, 65504.0
"""Where a matrix's largest number is between these, float16 has all of them as exactly as bfloat16 has that one."""


def in_float16(*layers: nn.Linear) -> Projection:
    """Activations are float32: only the weights, which take the time to read, are rounded, where float16 has them."""
    operation: Any = torch.ops.quantized.linear_dynamic_fp16.default

    def pack(weight: Tensor, bias: Tensor | None) -> Any:
        wide, own = weight.float().contiguous(), _wide(bias)
        most = float(torch.linalg.vector_norm(wide, float("inf")))
        if most and not SMALLEST <= most <= LARGEST:  # infinity and NaN stay what they are, too
            return wide, own
        return torch.ops.quantized.linear_prepack_fp16(wide, own)

    def run(x: Tensor, part: Any) -> Tensor:
        result: Tensor = F.linear(x, *part) if isinstance(part, tuple) else operation(x, part)
        return result

    return of_run(_in_parts(run, copied("half", layers, _each_part(pack))))


def in_int8(*layers: nn.Linear) -> Projection:
    """Weights are rounded by rows, activations by tokens, each to 8 bits of its largest number."""
    one: Any = torch.ops.quantized.linear_dynamic.default if hasattr(torch, "quantize_per_channel") else None
    outputs = sum(layer.out_features for layer in layers)
    for_one = cache(lambda: copied("int8 one", layers, lambda weight, bias: _for_fbgemm(weight, _wide(bias))))
    for_several = cache(lambda: _several_rows(layers))

    def one_row(x: Tensor) -> Tensor:
        """NaN and infinity, of which this rounding makes numbers or an error, make NaN, as with several rows."""
        try:
            result: Tensor = one(x, for_one())
        except RuntimeError:
            if bool(x.isfinite().all()):
                raise
            return x.new_full((1, outputs), float("nan"))
        return result.add_(x.sum(), alpha=0)

    def run(x: Tensor) -> Tensor:
        if x.size(0) == 1 and one is not None:
            return one_row(x)
        multiply, bias = for_several()
        most = _largest(x)
        y = multiply(x / most)
        return y.mul_(most) if bias is None else torch.addcmul(bias, y, most)

    return of_run(run)


def _several_rows(layers: Sequence[nn.Linear]) -> tuple[Layer, Tensor | None]:
    """What multiplies rows, each divided by its largest number, with rounded weights; and the bias, left out there."""
    if _lacks_vnni():  # there oneDNN takes 7 to 25 times as long as fbgemm for few rows
        static: Any = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default

        def pack_for_fbgemm(weight: Tensor, bias: Tensor | None) -> tuple[Any, Tensor | None]:
            return _for_fbgemm(weight, None), _wide(bias)

        own, bias = copied("int8 several", layers, pack_for_fbgemm)
        # NaN, and infinity over itself, of which this rounding makes numbers, are added again.
        return lambda x: static(x, 1 / 127.0, 128, own).add_(x.sum(-1, keepdim=True), alpha=0), bias
    operation: Any = torch.ops.onednn.qlinear_pointwise.default

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Any, ...]:
        rounded, scale = _rounded(weight)
        zeros = torch.zeros(len(scale), dtype=torch.int32)
        # The scale of the weights is divided by 127 in place of that of each token.
        return torch.ops.onednn.qlinear_prepack(rounded, None), scale / 127.0, zeros, _wide(bias)

    weight, scale, zeros, bias = copied("int8 several", layers, pack)

    def multiply(x: Tensor) -> Tensor:
        rounded = x.mul_(127.0).round_().to(torch.int8)
        y: Tensor = operation(
            rounded, 1.0, 0, weight, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip
        return y

    return multiply, bias


def _for_fbgemm(weight: Tensor, bias: Tensor | None) -> Any:
    rounded, scale = _rounded(weight)
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    with warnings.catch_warnings():  # torch will take this kind of tensor away, and what multiplies with it
        warnings.simplefilter("ignore", UserWarning)
        quantized = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zeros, 0)
    return torch.ops.quantized.linear_prepack(quantized, bias)


def _lacks_vnni() -> bool:
    """Whether this is a processor of Intel's kind without instructions for products of 8 bits."""
    return torch.cpu._is_avx2_supported() and not torch.cpu._is_vnni_supported()


def in_four_bits(*layers: nn.Linear) -> Projection:
    """Weights are rounded to 16 steps between the smallest and the largest of a group, activations to bfloat16."""
    inputs, outputs = layers[0].in_features, sum(layer.out_features for layer in layers)
    size = next((size for size in GROUPS if inputs % size == 0), None)
    if size is None or outputs % 16:  # which torch does not multiply with
        return in_int8(*layers)
    operation: Any = torch.ops.aten._weight_int4pack_mm_for_cpu.default

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        groups = weight.float().view(outputs, -1, size)
        low, high = groups.aminmax(dim=-1)
        scale = ((high - low) / 15.0).clamp_(min=1e-12)
        middle = low + 8.0 * scale
        steps = ((groups - low[..., None]) / scale[..., None]).round_().to(torch.int32).view(outputs, inputs)
        scales = torch.stack((scale, middle), -1).transpose(0, 1).to(torch.bfloat16).contiguous()
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(steps, 1), scales, _wide(bias)

    weight, scales, bias = copied("int4", layers, pack)

    def run(x: Tensor) -> Tensor:
        y: Tensor = operation(x.to(torch.bfloat16), weight, size, scales).float()
        return y if bias is None else y.add_(bias)

    return of_run(run)


def _each_part(pack: Callable[[Tensor, Tensor | None], Any]) -> Callable[[Tensor, Tensor | None], list[Any]]:
    """Packs a weight by parts of its rows: what packing needs beside the result is then small."""

    def parts(weight: Tensor, bias: Tensor | None) -> list[Any]:
        biases = repeat(None) if bias is None else torch.split(bias, ROWS)
        return [pack(part, own) for part, own in zip(read_by_parts(weight), biases, strict=False)]

    return parts


def _in_parts(operation: Callable[[Tensor, Any], Tensor], parts: list[Any]) -> Layer:
    if len(parts) == 1:
        only = parts[0]
        return lambda x: operation(x, only)
    return lambda x: torch.cat([operation(x, part) for part in parts], -1)


def _wide(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.float()


def _largest(x: Tensor) -> Tensor:
    """The largest number of each row, whatever its sign, [rows, 1]."""
    return torch.linalg.vector_norm(x, float("inf"), -1, keepdim=True).clamp_(min=1e-10)


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight in 8 bits, or 7, [outputs, inputs] int8, and what each row was divided by, [outputs] float32."""
    # Without VNNI two products are added in 16 bits, which are too few for them where both factors have eight.
    steps = 127.0 if torch.cpu._is_vnni_supported() else 63.0
    rounded, scale = torch.empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
    results = (torch.split(result, ROWS) for result in (rounded, scale))
    for part, result, factor in zip(read_by_parts(weight), *results, strict=True):
        wide = part.float()
        torch.amax(wide.abs(), 1, out=factor)
        factor.div_(steps).clamp_(min=1e-12)
        result.copy_((wide / factor[:, None]).round_())
    return rounded, scale
