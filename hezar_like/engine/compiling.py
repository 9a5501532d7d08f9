"""Blocks through torch.compile, for those who ask."""

from __future__ import annotations

from torch import nn

from ..blocks import Block
from ..errors import OptionError, did_you_mean

__all__ = ["MODES", "compile_blocks"]

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def compile_blocks(model: nn.Module, mode: bool | str, backend: str = "inductor") -> None:
    """Has each block compiled when it first runs; blocks of one kind share what was compiled. The engine leaves them.

    Args:
        model: Whose blocks.
        mode: True, or one of torch's modes: two of them record CUDA graphs. False: nothing is done.
        backend: Torch's name of what compiles.

    Raises:
        OptionError: When there is no such mode.
    """
    if mode is False:
        return
    if mode is not True and mode not in MODES:
        raise OptionError(f"compile is {mode!r}; it must be True, False or one of {MODES}.{did_you_mean(mode, MODES)}")
    for part in model.modules():
        if isinstance(part, Block):
            part.compile(dynamic=True, mode=None if mode is True else mode, backend=backend)
