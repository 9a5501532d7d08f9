"""Layers of a block on a CPU with gradients: what torch computes, in fewer passes over memory.

All is in the type of what comes in: float32, or bfloat16 as under autocast. Weights stay as they are. What a gradient
needs and is soon computed, such as an activation or the copies of weights in bfloat16, is not kept but computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..engine.copies import as_one
from ..engine.packing import Bucket

__all__ = ["add_and_norm", "attend", "feed_forward", "linear"]

INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
"""Of as many bits."""
BITS = 16
"""Random bits that decide whether a number is dropped: probabilities are exact to 2^-17."""
SIGN = -(2**15)
PER_DRAW = 4
"""So many of them come from one random number of 64 bits."""
TURNED = 64
"""Tokens that are transposed at a time."""


def linear(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Linear layers beside each other: [tokens, inputs] to [tokens, all outputs]."""
    result: Tensor = _Linear.apply(x, *_parameters(layers))  # type: ignore[no-untyped-call]
    return result


def feed_forward(x: Tensor, up: nn.Linear, activation: Callable[[Tensor], Tensor], down: nn.Linear) -> Tensor:
    """Two linear layers with an activation in between, [tokens, width] to the same."""
    result: Tensor = _FeedForward.apply(x, activation, *_parameters((up, down)))  # type: ignore[no-untyped-call]
    return result


def add_and_norm(x: Tensor, more: Tensor, dropout: float, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Adds to hidden states, and norms the sum.

    Args:
        x: [tokens, width], any type.
        more: What is added, likewise.
        dropout: The probability to drop numbers of it.
        norm: The norm.

    Returns:
        The sum in the type of `x`, and what is normed in that of `more`.
    """
    summed, normed = _AddAndNorm.apply(x, more, dropout, norm, norm.weight, norm.bias)  # type: ignore[no-untyped-call]
    return summed, normed


def attend(parts: Tensor, heads: int, scale: float, dropout: float, buckets: Sequence[Bucket]) -> Tensor:
    """Attention of texts, each over itself.

    Args:
        parts: Queries, keys and values beside each other, [tokens, 3 * width].
        heads: How many.
        scale: What scores are multiplied with.
        dropout: The probability to drop a probability.
        buckets: The texts.

    Returns:
        [tokens, width].
    """
    result: Tensor = _Attend.apply(parts, heads, scale, dropout, buckets)  # type: ignore[no-untyped-call]
    return result


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor | None]:
    return [*(layer.weight for layer in layers), *(layer.bias for layer in layers)]


def _copy(dtype: torch.dtype, parameters: Sequence[Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Weights beside each other, and the biases that follow them, in a type."""
    count = len(parameters) // 2
    weight, bias = (
        None if part is None else part.to(dtype) for part in as_one(cast(Any, parameters[:count]), parameters[count:])
    )
    assert weight is not None
    return weight, bias


def _turned(x: Tensor) -> Tensor:
    """The transpose of [tokens, width], contiguous: torch takes twice the time for all tokens at once."""
    result = x.new_empty(x.size(1), len(x))
    for part, place in zip(torch.split(x, TURNED), torch.split(result, TURNED, 1), strict=True):
        place.copy_(part.t())
    return result


def _gradients(
    gradient: Tensor, x: Tensor, parameters: Sequence[Tensor | None], needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Of weights beside each other, and of the biases that follow them; `needed` says of which."""
    count = len(parameters) // 2
    sizes = [len(cast(Tensor, weight)) for weight in parameters[:count]]
    weights: Sequence[Tensor | None] = [None] * count
    biases: Sequence[Tensor | None] = [None] * count
    if any(needed[:count]):
        turned = gradient.t() if x.dtype == torch.float32 else _turned(gradient)  # of which oneDNN is slow with a view
        weights = (turned @ x).float().split_with_sizes(sizes)
    if any(needed[count:]):
        biases = gradient.sum(0).float().split_with_sizes(sizes)
    return tuple(part if need else None for part, need in zip((*weights, *biases), needed, strict=True))


def _random(shape: torch.Size) -> Tensor:
    """Random numbers, int16, all equally probable."""
    count = shape.numel()
    draws = torch.empty(-(-count // PER_DRAW), dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[:count].view(shape)


def _mark_dropped(weights: Tensor, probability: float) -> None:
    """Makes what is dropped less than nothing, so that one tensor tells both."""
    integers = INTEGERS[weights.dtype]
    dropped = _random(weights.shape).lt_(round(probability * 2**BITS) + SIGN).to(integers)
    weights.view(integers).bitwise_or_(dropped.mul_(torch.iinfo(integers).min))


def _kept(shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
    """0 where a number is dropped, else 1, to multiply numbers of a type with; for float32 int8, a quarter of it."""
    kept = _random(shape).ge_(round(probability * 2**BITS) + SIGN)
    if dtype == torch.float32:
        return kept.to(torch.int8)
    return kept.mul_(int(torch.ones((), dtype=dtype).view(torch.int16))).view(dtype)


def _in_its_types(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass in the types of what comes in, also where it runs under autocast; it has no gradient itself."""

    @wraps(backward)
    def run(*given: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return backward(*given)

    result: Callable[..., Any] = once_differentiable(run)
    return result


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        return F.linear(x, *_copy(x.dtype, parameters))

    @staticmethod
    @_in_its_types
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, *parameters = ctx.saved_tensors
        back = gradient @ _copy(x.dtype, parameters)[0] if ctx.needs_input_grad[0] else None
        return back, *_gradients(gradient, x, parameters, ctx.needs_input_grad[1:])


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Any, *parameters: Tensor | None) -> Tensor:
        up, down = parameters[::2], parameters[1::2]
        hidden = F.linear(x, *_copy(x.dtype, up))
        ctx.activation = activation
        ctx.save_for_backward(x, hidden, *parameters)
        return F.linear(activation(hidden), *_copy(x.dtype, down))

    @staticmethod
    @_in_its_types
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, hidden, *parameters = ctx.saved_tensors
        (up, down), needed = (parameters[::2], parameters[1::2]), ctx.needs_input_grad[2:]
        with torch.enable_grad():
            hidden = hidden.detach().requires_grad_()
            active = ctx.activation(hidden)
        down_weight, down_bias = _gradients(gradient, active.detach(), down, needed[1::2])
        (back,) = torch.autograd.grad(active, hidden, gradient @ _copy(x.dtype, down)[0])
        del active
        up_weight, up_bias = _gradients(back, x, up, needed[::2])
        back = back @ _copy(x.dtype, up)[0] if ctx.needs_input_grad[0] else None
        return back, None, up_weight, down_weight, up_bias, down_bias


class _AddAndNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, more: Tensor, dropout: float, norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.scale, ctx.shape, ctx.dtype = 1 / (1 - dropout), norm.normalized_shape, more.dtype
        kept = _kept(more.shape, dropout, more.dtype) if dropout else None
        summed = x + more if kept is None else torch.addcmul(x, more, kept, value=ctx.scale)
        normed, mean, deviation = torch.native_layer_norm(summed, ctx.shape, weight, bias, norm.eps)
        ctx.save_for_backward(summed, mean, deviation, weight, bias, kept)
        ctx.set_materialize_grads(False)
        return summed, normed.to(more.dtype)

    @staticmethod
    @_in_its_types
    def backward(ctx: Any, of_sum: Tensor | None, of_normed: Tensor | None) -> Any:
        summed, mean, deviation, weight, bias, kept = ctx.saved_tensors
        back, of_weight, of_bias = of_sum, None, None
        if of_normed is not None:
            needed = [True, ctx.needs_input_grad[4], ctx.needs_input_grad[5]]
            back, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
                of_normed.to(summed.dtype), summed, ctx.shape, mean, deviation, weight, bias, needed
            )
            back = back if of_sum is None else back.add_(of_sum)
        if back is None:
            return None, None, None, None, None, None
        more = back.to(ctx.dtype)
        if kept is not None:
            more = (more * kept).mul_(ctx.scale)
        return back, more, None, None, of_weight, of_bias


class _Attend(Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, heads: int, scale: float, dropout: float, buckets: Sequence[Bucket]) -> Tensor:
        tokens, width = len(parts), parts.size(1) // 3
        parts = parts.view(tokens, 3 * heads, -1)
        result = parts.new_empty(tokens, width)
        result[buckets[-1].tokens.stop :] = 0
        kept = []
        for bucket in buckets:
            own = bucket.fill(parts).view(bucket.count, bucket.length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            own = own.clone(memory_format=torch.contiguous_format).flatten(1, 2)
            q, k, v = own.unbind()
            q.mul_(scale)
            scores = torch.bmm(q, k.mT)
            mask, causal = bucket.look(None, scores.dtype)
            if causal:
                mask = scores.new_full((bucket.length, bucket.length), float("-inf")).triu_(1)
            if mask is not None:
                by_text = scores.view(bucket.count, heads, bucket.length, bucket.length)
                by_text.add_(mask)
            weights = torch.softmax(scores, -1)
            del scores
            if dropout:
                _mark_dropped(weights, dropout)
            y = torch.bmm(weights.relu() if dropout else weights, v)
            if dropout:
                y.mul_(1 / (1 - dropout))
            y = y.view(bucket.count, heads, bucket.length, -1).transpose(1, 2).reshape(-1, width)
            result[bucket.tokens] = y if bucket.real is None else y.index_select(0, bucket.real)
            kept += [own, weights]
        ctx.heads, ctx.scale, ctx.dropout, ctx.buckets = heads, scale, dropout, buckets
        ctx.save_for_backward(*kept)
        return result

    @staticmethod
    @_in_its_types
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tokens, width = gradient.shape
        heads, dropout, kept = ctx.heads, ctx.dropout, ctx.saved_tensors
        result = gradient.new_empty(tokens, 3 * width)
        result[ctx.buckets[-1].tokens.stop :] = 0
        for number, bucket in enumerate(ctx.buckets):
            own, weights = kept[2 * number : 2 * number + 2]
            q, k, v = own.unbind()
            back = gradient[bucket.tokens]
            if bucket.real is not None:  # nobody looks at what comes out where a text was filled up
                places = bucket.count * bucket.length
                back = back.new_zeros(places, width).index_copy_(0, bucket.real, back)
            back = back.view(bucket.count, bucket.length, heads, -1).transpose(1, 2).flatten(0, 1)
            of_parts = torch.empty_like(own)
            of_weights = torch.bmm(back, v.mT)
            if dropout:
                back = back.mul(1 / (1 - dropout))
                of_weights = torch.ops.aten.threshold_backward(of_weights.mul_(1 / (1 - dropout)), weights, 0)
            torch.bmm((weights.relu() if dropout else weights).mT, back, out=of_parts[2])
            weights = weights.abs() if dropout else weights
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            torch.bmm(of_scores, k, out=of_parts[0]).mul_(ctx.scale)
            torch.bmm(of_scores.mT, q, out=of_parts[1])
            of_tokens = of_parts.view(3, bucket.count, heads, bucket.length, -1).permute(1, 3, 0, 2, 4)
            of_tokens = of_tokens.reshape(-1, 3 * width)
            result[bucket.tokens] = of_tokens if bucket.real is None else of_tokens.index_select(0, bucket.real)
        return result, None, None, None, None
