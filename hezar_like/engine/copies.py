"""Weights of linear layers beside each other, and copies of them in other forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from .memory import give_back_freed, release
from .weights import SeenWeights

__all__ = ["as_one", "beside", "copied", "forget_copies", "together"]

TIDY_BYTES = 2**25
"""After copies of so much memory of weights, what they left free is given back."""
_left = 0
"""Of how much copies were made since then."""

_copies: WeakKeyDictionary[nn.Linear, dict[str, tuple[SeenWeights, Any]]] = WeakKeyDictionary()
"""For the first of some layers their weights in other forms, each with what it was made of."""


def copied(form: str, layers: Sequence[nn.Linear], make: Callable[[Tensor, Tensor | None], Any]) -> Any:
    """The weights of layers in another form, made once, and anew when they have changed."""
    weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    forms = _copies.setdefault(layers[0], {})
    name = f"{form} {len(layers)}"
    if name in forms and forms[name][0].are(weights):
        return forms[name][1]
    _see_what_optimizers_change()
    value = make(*together(layers))
    forms[name] = SeenWeights(weights), value
    for layer in layers:
        release(layer.weight)
    _tidy_up(layers)
    return value


def _tidy_up(layers: Sequence[nn.Linear]) -> None:
    """Gives back what copying left free, now and then: it takes a few milliseconds."""
    global _left
    _left += sum(layer.weight.nbytes for layer in layers)
    if _left >= TIDY_BYTES:
        _left = 0
        give_back_freed()


def forget_copies(layer: nn.Module) -> None:
    """Frees the copies of a layer's weights."""
    if isinstance(layer, nn.Linear):
        _copies.pop(layer, None)


@cache
def _see_what_optimizers_change() -> None:
    """Fused optimizers do not tell torch that they have changed a weight, so that its copies would be taken for new."""

    def tell(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            if group.get("fused"):
                torch.autograd.graph.increment_version(group["params"])

    register_optimizer_step_post_hook(tell)


def together(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """The weights of layers beside each other, and their biases, zeros for those that have none."""
    return as_one([layer.weight for layer in layers], [layer.bias for layer in layers])


def as_one(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """The same of weights, [outputs, inputs] each, and as many biases."""
    if len(weights) == 1:
        (bias,) = biases
        return weights[0].detach(), None if bias is None else bias.detach()
    weight = torch.cat([part.detach() for part in weights])
    if all(bias is None for bias in biases):
        return weight, None
    zeros = [
        weight.new_zeros(len(part)) if bias is None else bias.detach()
        for part, bias in zip(weights, biases, strict=True)
    ]
    return weight, torch.cat(zeros)


def beside(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None] | None:
    """The same without a copy, where weights lie beside each other already, as those of one published layer do."""
    weight = _as_one([layer.weight for layer in layers])
    if weight is None or all(layer.bias is None for layer in layers):
        return None if weight is None else (weight, None)
    bias = None if any(layer.bias is None for layer in layers) else _as_one([layer.bias for layer in layers])
    return None if bias is None else (weight, bias)


def _as_one(tensors: Sequence[Tensor]) -> Tensor | None:
    """Tensors that follow each other along their first dimension in the same memory, as one."""
    first, rows = tensors[0].detach(), 0
    for tensor in tensors:
        same = tensor.stride() == first.stride() and tensor.shape[1:] == first.shape[1:]
        where = first.data_ptr() + rows * first.stride(0) * first.element_size()
        storage = first.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        if not (same and storage and tensor.data_ptr() == where):
            return None
        rows += len(tensor)
    return first.as_strided((rows, *first.shape[1:]), first.stride())
