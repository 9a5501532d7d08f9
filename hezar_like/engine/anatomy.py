"""What a stack is made of, and whether that is still so when it runs again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..blocks import Block, Stack
from ..layers import MLP, Attention
from ..layers.norms import RMSNorm
from ..layers.substitutes import parts_of
from .weights import SeenWeights

__all__ = ["Anatomy", "has_own_methods", "is_plain", "plain_parts"]

HOOKS = attrgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
LAYERS: Mapping[type[nn.Module], Callable[[Any], tuple[Any, ...]]] = {
    Attention: attrgetter("q", "k", "v", "out"),
    MLP: attrgetter("gate", "up", "down"),
}
"""The linear layers of a layer."""
METHODS: Mapping[type[nn.Module], frozenset[str]] = {kind: frozenset(vars(kind)) for kind in (Attention, MLP, Block)}
"""What somebody may replace on one layer, such as `attend`."""
SETTINGS: Mapping[type[nn.Module], Callable[[Any], Any]] = {
    Attention: attrgetter("num_heads", "head_dim", "scale", "softcap", "window", "rotary", "q_norm", "k_norm"),
    MLP: attrgetter("activation"),
    Block: attrgetter("order"),
    nn.LayerNorm: attrgetter("eps", "normalized_shape"),
    RMSNorm: attrgetter("eps", "offset"),
}
"""What somebody may set in a layer, beside its weights."""


class Anatomy:
    """What a stack is made of. Whoever keeps it does not keep the stack.

    Args:
        parts: All modules in the stack, itself left out.
    """

    def __init__(self, parts: list[nn.Module]) -> None:
        self._parts = parts
        self._settings = _settings(parts)
        self._weights = SeenWeights(_weights(parts))

    def is_that_of(self, parts: list[nn.Module]) -> bool:
        """Whether a stack of these parts is the same, unchanged."""
        same = len(self._parts) == len(parts) and all(map(is_, self._parts, parts))
        return same and self._settings == _settings(parts) and self._weights.are(_weights(parts))


def plain_parts(stack: Stack) -> list[nn.Module] | None:
    """The modules in a stack that is built of the layers here, and that nobody listens to; None for another."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks or not len(stack.blocks):
        return None
    parts = parts_of(stack)
    for part in parts:
        if any(HOOKS(part)) or "forward" in part.__dict__:  # listened to, or replaced on the object itself
            return None
        if part.__dict__.get("_compiled_call_impl") is not None:
            return None
        kind = type(part)
        if has_own_methods(part):
            return None
        if kind in LAYERS and any(layer is not None and type(layer) is not nn.Linear for layer in LAYERS[kind](part)):
            return None
        if kind is Block and not _has_plain_parts(part):
            return None
    return parts[1:] if all(type(block) is Block for block in stack.blocks) else None


def has_own_methods(part: nn.Module) -> bool:
    """Whether something was put in place of a method, on this block or layer only."""
    return not METHODS.get(type(part), frozenset()).isdisjoint(part.__dict__)


def is_plain(stack: Stack) -> bool:
    """Whether a stack is built of the layers here, and nobody listens to them."""
    return plain_parts(stack) is not None


def _has_plain_parts(block: Any) -> bool:
    cross = block.cross is None or type(block.cross) is Attention
    return cross and type(block.attn) is Attention and type(block.mlp) is MLP


def _settings(parts: list[nn.Module]) -> list[Any]:
    return [SETTINGS[type(part)](part) for part in parts if type(part) in SETTINGS]


def _weights(parts: list[nn.Module]) -> list[Tensor | None]:
    return [weight for part in parts for weight in part._parameters.values()]
