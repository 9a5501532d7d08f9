"""What runs in place of modules, while something faster does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["SUBSTITUTES", "TRAINED", "Linear", "is_autocast", "parts_of", "substitute", "trained"]

SUBSTITUTES: WeakKeyDictionary[nn.Module, Callable[..., Any]] = WeakKeyDictionary()
"""For a module what takes its place, called like its `forward`. It stands here and not in the module, so that copies of
the module are copies of nothing else."""
TRAINED: WeakKeyDictionary[nn.Module, Callable[..., Any]] = WeakKeyDictionary()
"""The same while a model is trained; what takes a module's place may return None, and the module runs itself."""


def substitute(module: nn.Module) -> Callable[..., Any] | None:
    """What takes a module's place in this call: nothing in training, with autocast, or where gradients are wanted."""
    if not SUBSTITUTES or module.training or torch.is_grad_enabled() or is_autocast():
        return None
    return SUBSTITUTES.get(module)


def is_autocast() -> bool:
    """Whether torch chooses types for operations in this thread, instead of those that weights have."""
    return any(map(torch.is_autocast_enabled, ("cpu", "cuda", "mps")))


def trained(module: nn.Module) -> Callable[..., Any] | None:
    """What takes a module's place in this call while it is trained: nothing where it may be run again without that."""
    return TRAINED.get(module) if TRAINED and not _is_run_twice(module) else None


def _is_run_twice(module: nn.Module) -> bool:
    """Whether somebody may have the module run again for its gradients, as `torch.utils.checkpoint` does around it."""
    if not torch.is_grad_enabled():
        return module.training
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def parts_of(module: nn.Module) -> list[nn.Module]:
    """A module and all that are in it, in no order; torch's `modules` takes twenty times as long."""
    found, waiting = [], [module]
    while waiting:
        part = waiting.pop()
        found.append(part)
        waiting += [child for child in part._modules.values() if child is not None]
    return found


class Linear(nn.Linear):
    """A linear layer in whose place something faster may run."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        run = substitute(self)
        result: Tensor = super().forward(x) if run is None else run(x)
        return result
