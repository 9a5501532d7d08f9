"""Stacks on a CPU with gradients and without padding, by layers that pass over memory less often than modules."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..blocks import Block, Context, Stack
from ..engine.anatomy import is_plain
from ..engine.packing import Packed, is_packable, pack, tokens_read
from .packed_stacks import RunStack
from .trained_layers import add_and_norm, attend, feed_forward, linear

__all__ = ["in_fewer_passes"]

MOST_DROPPED = 0.999
"""What is dropped with a higher probability is left to torch."""


def in_fewer_passes(stack: Stack, dtype: torch.dtype) -> RunStack | None:
    """What runs a stack on a CPU; None where it is not made of what is written here.

    Args:
        stack: The stack.
        dtype: float32; or bfloat16, in place of what autocast runs.
    """
    return _run_of(stack, dtype) if _is_known(stack) else None


def _is_known(stack: Stack) -> bool:
    """Whether it is made of nothing but what is written here."""
    return (
        stack.bias is None
        and type(stack.norm) in (nn.LayerNorm, type(None))
        and is_plain(stack)
        and all(isinstance(b, Block) and _is_known_block(b) for b in stack.blocks)
    )


def _is_known_block(block: Block) -> bool:
    attn, mlp = block.attn, block.mlp
    return (
        block.order in ("post", "pre")
        and block.cross is None
        and type(block.attn_norm) is type(block.mlp_norm) is nn.LayerNorm
        and all(part is None for part in (attn.q_norm, attn.rotary, attn.window, attn.softcap, mlp.gate))
        and attn.q.out_features == attn.k.out_features
        and not mlp.dropout.p
        and max(block.dropout.p, attn.dropout) <= MOST_DROPPED
        and all(type(p.data) is Tensor and p.dtype == torch.float32 for p in block.parameters())  # no shards
    )


def _run_of(stack: Stack, dtype: torch.dtype) -> RunStack:
    def run(x: Tensor, context: Context) -> Tensor | None:
        if not is_packable(context) or torch.is_autocast_enabled("cpu") is not (dtype == torch.bfloat16):
            return None
        if _wants_other_gradients():
            return None
        tokens, texts = pack(x, context, tokens_read(), filled=True)
        if texts.texts < x.size(0):  # somebody may read a row of nothing but padding
            return None
        blocks: list[Any] = list(stack.blocks)
        every = int(stack.checkpoint_activations) if torch.is_grad_enabled() else 0
        post = blocks[0].order == "post"
        state = (tokens.to(dtype),) * 2 if post else (tokens, blocks[0].attn_norm(tokens).to(dtype))
        for index, block in enumerate(blocks):
            own = blocks[index + 1].attn_norm if index + 1 < len(blocks) else stack.norm
            reads = texts.read if index + 1 == len(blocks) else None
            arguments = (block, *state, None if post else own, texts, reads)
            anew = every and index % every == 0
            state = checkpoint(_block, *arguments, use_reentrant=False) if anew else _block(*arguments)
        return texts.unpack(state[1] if post or stack.norm is not None else state[0])

    return run


def _wants_other_gradients() -> bool:
    """Whether gradients are wanted that the layers here have not: by `torch.func`, or of gradients.

    Of these torch's fast attention has none either, so that who wants them switches it off.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None or not torch._C._get_flash_sdp_enabled()


def _block(
    block: Block, x: Tensor, normed: Tensor, next_norm: Any, texts: Packed, reads: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A block.

    Args:
        block: The block.
        x: What its layers add to, [tokens, width].
        normed: What the attention reads, likewise; with the order "post" the same.
        next_norm: With the order "pre", the norm of what comes out, if there is one.
        texts: Of which texts the tokens are.
        reads: The only tokens of which somebody reads what comes out.

    Returns:
        The next block's `x` and `normed`.
    """
    attn, mlp = block.attn, block.mlp
    norms = (block.mlp_norm, next_norm) if block.order == "pre" else (block.attn_norm, block.mlp_norm)
    dropout = block.dropout.p if block.training else 0.0
    y = linear(normed, attn.q, attn.k, attn.v)
    y = attend(y, attn.num_heads, attn.scale, attn.dropout if attn.training else 0.0, texts.buckets)
    if reads is not None:
        x, y = x.index_select(0, reads), y.index_select(0, reads)
    x, normed = _joined(block, x, linear(y, attn.out), dropout, norms[0])
    return _joined(block, x, feed_forward(normed, mlp.up, mlp.activation, mlp.down), dropout, norms[1])


def _joined(block: Block, x: Tensor, more: Tensor, dropout: float, norm: Any) -> tuple[Tensor, Tensor]:
    """What a layer read and what it made, joined, and normed; without a norm, the same twice."""
    if norm is None:
        x = x + F.dropout(more, dropout)
        return x, x
    summed, normed = add_and_norm(x, more, dropout, norm)
    return (normed, normed) if block.order == "post" else (summed, normed)
