"""While a model predicts, its stacks and large linear layers run by the engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from ..blocks import Stack
from ..layers.substitutes import SUBSTITUTES, Linear, parts_of
from .devices import usable_quantization
from .kinds import FEW_ROWS, WIDE, Kind, Layer, Quantization, is_copied, kind_for
from .linears import projection
from .stacks import forget, prepared

__all__ = ["Accelerated", "accelerated", "evaluating"]

logger = logging.getLogger(__name__)
_lock = threading.RLock()
_accelerated: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""For each model that runs by the engine at the moment: how many calls do."""
_evaluated: WeakKeyDictionary[nn.Module, tuple[int, tuple[Any, ...]]] = WeakKeyDictionary()
"""For each model that predicts at the moment: in how many calls, and its modules to put back into training mode."""
_told: WeakSet[nn.Module] = WeakSet()
"""The models of which it was said that they are not rounded."""


class Accelerated(nn.Module):
    """A module that runs by the engine: what that made of its weights goes when they do."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        first = next(self.parameters(), None)
        place = None if first is None else first.data_ptr()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if first is not None and next(self.parameters()).data_ptr() != place:
            forget(self)
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        result = super().load_state_dict(state_dict, strict, assign)
        forget(self)
        return result


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Runs a model by the engine, without dropout: while any call predicts; the last one to finish puts that back."""
    with _lock:
        count, training = _evaluated.get(model, (0, ()))
        parts = parts_of(model)
        now = tuple(part for part in parts if part.training)
        if now:
            training = tuple(dict.fromkeys((*training, *now)))
            model.train(False)
        _evaluated[model] = count + 1, training
    try:
        with accelerated(model, parts):
            yield
    finally:
        with _lock:
            count, training = _evaluated.pop(model)
            if count > 1:
                _evaluated[model] = count - 1, training
            else:
                for part in training:
                    part.training = True


@contextmanager
def accelerated(model: nn.Module, among: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """Runs a model by the engine, as its weights are now; `among` are its parts, where they are known."""
    with _lock:
        quantize = _quantization(model)
        parts = [part for part in among or parts_of(model) if isinstance(part, Stack | Linear)]
        _accelerated[model] = _accelerated.get(model, 0) + 1
        for part in parts:
            run = prepared(part, quantize) if isinstance(part, Stack) else _linear(part, quantize)
            if run is None:
                SUBSTITUTES.pop(part, None)
                if quantize is not None and isinstance(part, Stack):
                    _tell(model, quantize)
            else:
                SUBSTITUTES[part] = run
    try:
        yield
    finally:
        with _lock:
            _accelerated[model] -= 1
            if not _accelerated[model]:
                del _accelerated[model]
                for part in parts:
                    SUBSTITUTES.pop(part, None)


def _tell(model: nn.Module, quantize: Quantization) -> None:
    """Says once that a model runs unrounded, which its user does not expect."""
    if model not in _told:
        _told.add(model)
        logger.warning(
            f"quantize={quantize!r} does not count for blocks that run by themselves: there are hooks, layers of "
            "another kind such as LoRA's, or they are compiled or in training mode. Remove these, merge LoRA, or leave "
            "quantize out; this is said once."
        )


def _quantization(model: nn.Module) -> Quantization | None:
    """What the model says now, which somebody may have changed, or moved it."""
    quantize = getattr(model, "quantize", None)
    if quantize is None:
        return None
    return usable_quantization(quantize, next(model.parameters()).device, getattr(model, "is_generative", False))


def _linear(layer: Linear, quantize: Quantization | None) -> Callable[[Tensor], Tensor] | None:
    """What runs a linear layer by itself, such as the last one of a language model; None: it does."""
    # Four bits are too few for the layer whose outputs are compared with each other.
    usual = kind_for(layer.weight, None if quantize is None else "int8")
    few: Kind | None = "packed" if usual == "plain" and is_copied(layer.weight) else None
    # One row is read as fast without a copy.
    one: Kind = "plain" if usual == "packed" and layer.weight.stride(1) == 1 else usual
    if usual == "plain" and (layer.weight.device.type != "cpu" or layer.weight.dtype != torch.float32):
        return None  # there is no other way
    runs: dict[Kind, Layer] = {}

    def substitute(x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.size(-1))
        kind = one if len(tokens) == 1 else few if few is not None and len(tokens) in FEW_ROWS else usual
        if kind not in runs:
            runs[kind] = projection(kind, layer).run
        tokens = tokens.float() if kind in WIDE else tokens
        return runs[kind](tokens).view(*x.shape[:-1], -1)

    return substitute
