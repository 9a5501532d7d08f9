"""Stacks with gradients and without padding: texts behind each other, of which each attends to itself only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ..blocks import Block, Context, Stack
from ..engine.anatomy import has_own_methods, is_plain
from ..engine.attending import attend_each_text
from ..engine.packing import has_texts, is_packable, pack
from ..layers import Attention
from ..layers.substitutes import TRAINED, parts_of

__all__ = ["RunStack", "running_stacks", "without_padding"]

RunStack = Callable[[Tensor, Context], Tensor | None]
"""From [batch, length, width] to the same; None where the stack must run itself."""


@contextmanager
def running_stacks(model: nn.Module, choose: Callable[[Stack], RunStack | None]) -> Iterator[None]:
    """While it is entered, stacks run by what is chosen for them, if anything is."""
    stacks = [part for part in parts_of(model) if isinstance(part, Stack)]
    chosen: dict[nn.Module, RunStack] = {stack: run for stack in stacks if (run := choose(stack)) is not None}
    TRAINED.update(chosen)
    try:
        yield
    finally:
        for stack in chosen:
            TRAINED.pop(stack, None)


def without_padding(stack: Stack) -> RunStack | None:
    """What runs a stack's own blocks on nothing but tokens; None where it is made of others, or of compiled ones."""
    if not all(_is_known(block) for block in stack.blocks):
        return None
    listened_to = not is_plain(stack)

    def run(x: Tensor, context: Context) -> Tensor | None:
        # Rows of several texts would look at a mask of all tokens by all tokens. Where rows hold one text each, a GPU
        # takes less time for padding than for many small kernels, and who listens expects the batch's shape.
        rows_of_one = not has_texts()
        if not is_packable(context) or (rows_of_one and (context.present is None or listened_to or x.is_cuda)):
            return None
        tokens, texts = pack(x, context, "all")
        if texts.texts < x.size(0):  # somebody may read a row of nothing but padding
            return None
        if stack.checkpoint_activations:  # what is made in the first block would be missing when that is computed again
            for block in stack.blocks:
                for bucket in texts.buckets:
                    bucket.look(cast(Block, block).attn.window, x.dtype)
        own = Context(positions=texts.positions, attend=partial(attend_each_text, texts))
        return texts.unpack(stack.run_blocks(tokens[None], own)[0])

    return run


def _is_known(block: Any) -> bool:
    """Whether a block attends by what its context says; its parameters may be shards."""
    known = type(block) is Block or type(block).__bases__ == (FSDPModule, Block)
    if not known or type(block.attn) is not Attention or has_own_methods(block) or has_own_methods(block.attn):
        return False
    return block._compiled_call_impl is None  # else each batch's texts would be compiled
