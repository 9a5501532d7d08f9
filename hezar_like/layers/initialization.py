"""Random weights, and modules that wait for theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules made in this context have shapes and no memory: for weights that are filled later, once."""
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Leaves out torch's own filling of new weights, which on meta only imports a compiler: a second of work."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def materialize(module: nn.Module, device: torch.device) -> None:
    """Gives modules made `without_memory` theirs; torch's `to_empty` would import a compiler to do it.

    Args:
        module: Whose parameters and buffers, and those of all modules inside, get memory. What is in it is undefined.
        device: Where.
    """
    for part in module.modules():
        for name, old in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            new = torch.empty(old.shape, dtype=old.dtype, device=device)
            setattr(part, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def assign(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts tensors in the place of parameters and buffers; torch's `load_state_dict` takes longer than to read them.

    Args:
        module: Which must have them.
        tensors: By their name in its state.
    """
    parts = dict(module.named_modules())
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        old = getattr(parts[path], leaf)
        new = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        setattr(parts[path], leaf, new)


@torch.no_grad()
def initialize(module: nn.Module, std: float, mean: float = 0.0) -> None:
    """Fills every parameter: linear and embedding weights as BERT did, other layers as torch does.

    Args:
        module: Whose parameters, and those of all modules inside, are filled.
        std: Standard deviation of linear and embedding weights; biases and the padding token become zero.
        mean: Their mean.

    Raises:
        TypeError: When a module has parameters of its own and no `reset_parameters` to fill them.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(mean, std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.zero_()
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()
        elif callable(reset := getattr(part, "reset_parameters", None)):
            reset()
        elif next(part.parameters(recurse=False), None) is not None:
            raise TypeError(f"{type(part).__name__} has parameters; give it a reset_parameters() that fills them.")
