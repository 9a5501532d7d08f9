"""In which type matrices are multiplied while a model is trained, and by what its stacks run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from ..blocks import Stack
from ..engine.devices import multiplies
from .packed_stacks import RunStack, running_stacks, without_padding
from .trained_stacks import in_fewer_passes

__all__ = ["computing", "usable_precision"]

logger = logging.getLogger(__name__)
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def usable_precision(wanted: str | None, device: torch.device) -> str | None:
    """What `TrainerConfig.mixed_precision` comes to on a device: "bf16", "fp16", or None.

    A processor without instructions for a type takes ten times as long for it as for float32, or more. There float32 is
    used, which is more exact, and said so.
    """
    dtype = TYPES.get(wanted or "no")
    if dtype is None or multiplies(dtype, device):
        return None if dtype is None else wanted
    logger.warning(
        f"TrainerConfig.mixed_precision is {wanted!r}, but this processor has no instructions for {dtype}, and would "
        "take many times as long. float32 is used, which is more exact, and takes more memory."
    )
    return None


def computing(
    model: nn.Module, precision: str | None, device: torch.device, *, sharded: bool
) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context of forward passes.

    Args:
        model: The model.
        precision: From `usable_precision`.
        device: Where the model is.
        sharded: Whether its parameters are shards.
    """
    dtype = TYPES.get(precision or "no")
    by_layers = dtype != torch.float16 and device.type == "cpu" and not sharded

    def choose(stack: Stack) -> RunStack | None:
        return (in_fewer_passes(stack, dtype or torch.float32) if by_layers else None) or without_padding(stack)

    @contextmanager
    def context() -> Iterator[None]:
        autocast = nullcontext() if dtype is None else torch.autocast(device.type, dtype)
        with autocast, running_stacks(model, choose):
            yield

    return context
