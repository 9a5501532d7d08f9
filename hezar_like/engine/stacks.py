"""Stacks as plain operations: calls of modules take longer than the many small operations of a token.

What comes out is the same. Only what is built of the layers here is prepared; what somebody put something of their own
into, a hook or another kind of layer, runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from ..blocks import Block, Context, Order, Stack
from ..layers import MLP, Attention
from ..layers.substitutes import parts_of
from .anatomy import Anatomy, plain_parts
from .attending import Attend, attend_decoded, attend_encoded, attend_texts
from .copies import forget_copies
from .kinds import FEW_ROWS, WIDE, Kind, Layer, Projection, Quantization, is_copied, kind_for
from .linears import projection
from .norms import normed
from .packing import Reads, pack, tokens_read

__all__ = ["forget", "prepared"]

Run: TypeAlias = Callable[[Tensor, Context], Tensor]

_prepared: WeakKeyDictionary[Stack, tuple[Quantization | None, Anatomy, Run]] = WeakKeyDictionary()
"""For each stack what ran it last, and how the stack was then."""


def prepared(stack: Stack, quantize: Quantization | None = None) -> Run | None:
    """What runs a stack, for one call of the user; None where the stack must run itself.

    Args:
        stack: The stack, whose weights must stay as they are while this is used.
        quantize: What its weights are rounded to; default: nothing.
    """
    parts = None if stack.training else plain_parts(stack)
    before = _prepared.pop(stack, None)
    if parts is None:
        return None
    if before is None or before[0] != quantize or not before[1].is_that_of(parts):
        blocks = [block for block in stack.blocks if isinstance(block, Block)]
        before = quantize, Anatomy(parts), _run(blocks, stack.norm, quantize)
    _prepared[stack] = before
    return before[2]


def forget(model: nn.Module) -> None:
    """Frees what was made to run a model, for one that is about to be another."""
    for part in parts_of(model):
        forget_copies(part)
        if isinstance(part, Stack):
            _prepared.pop(part, None)


def _run(blocks: list[Block], norm: nn.Module | None, quantize: Quantization | None) -> Run:
    """What runs the blocks of a stack, in programs that are made when they are needed."""
    programs: dict[tuple[Kind, Reads | None], Run] = {}
    first = blocks[0].attn.q.weight
    writing, own = kind_for(first, quantize), kind_for(first, None)
    # Rounding to 8 bits gains little where many tokens are read at once, and to four bits it takes longer.
    reading = own if own == "packed" or writing == "int4" else writing
    copied = writing == "plain" and is_copied(*(weight for block in blocks for weight in block.parameters()))

    def run(x: Tensor, context: Context) -> Tensor:
        decodes = context.cache is not None
        starts = writing == "int4" and context.cache is not None and not context.cache.length
        kind = writing if decodes and not starts else reading
        if copied and decodes and x.size(0) * x.size(1) in FEW_ROWS:
            kind = "packed"
        reads = None if decodes else tokens_read()
        program = programs.get((kind, reads))
        if program is None:
            program = _decoding(blocks, norm, kind) if reads is None else _reading(blocks, norm, kind, reads)
            programs[kind, reads] = program
        if kind in WIDE:
            return program(x.float(), context).to(x.dtype)
        return program(x, context)

    return run


def _decoding(blocks: list[Block], norm: nn.Module | None, kind: Kind) -> Run:
    """Goes on from a cache."""
    last_norm = normed(norm, kind)
    runs = [_block(block, kind, attend_decoded(block.attn, kind, i), i) for i, block in enumerate(blocks)]

    def decode(x: Tensor, context: Context) -> Tensor:
        context.rows = x.size(0)
        tokens = x.reshape(-1, x.size(2))
        for run in runs:
            tokens = run(tokens, context)
        return last_norm(tokens).view(x.shape)

    return decode


def _reading(blocks: list[Block], norm: nn.Module | None, kind: Kind, reads: Reads) -> Run:
    """Reads texts without their padding."""
    last_norm, last = normed(norm, kind), len(blocks) - 1
    runs = [
        _block(block, kind, attend_texts(block.attn, kind, last=i == last), i, reads if i == last else "all")
        for i, block in enumerate(blocks)
    ]

    filled = kind in ("packed", "int8")

    def read(x: Tensor, context: Context) -> Tensor:
        tokens, packed = pack(x, context, reads, filled=filled)
        for run in runs:
            tokens = run(tokens, packed)
        return packed.unpack(last_norm(tokens))

    return read


def _block(
    block: Block, kind: Kind, attend: Attend, index: int, reads: Reads = "all"
) -> Callable[[Tensor, Any], Tensor]:
    """A block, of which only some tokens may be read; its orders are those of `Block`."""
    out = projection(kind, block.attn.out)
    hidden, down = _mlp(block.mlp, kind)
    cross = _cross_attention(block.cross, kind, index)
    attn_norm, cross_norm, mlp_norm = (
        normed(norm, kind) for norm in (block.attn_norm, block.cross_norm, block.mlp_norm)
    )
    attn_out_norm, mlp_out_norm = normed(block.attn_out_norm, kind), normed(block.mlp_out_norm, kind)
    shared_norm = block.mlp_norm is None
    add_out, add_down = out.add, down.add

    def wanted(x: Tensor, context: Any) -> Tensor:
        return x if reads == "all" else x.index_select(0, context.read)

    def pre(x: Tensor, context: Any) -> Tensor:
        x = add_out(attend(attn_norm(x), context), wanted(x, context))
        if cross is not None:
            x = x + cross(cross_norm(x), context)
        return add_down(hidden(mlp_norm(x)), x)

    def sandwich(x: Tensor, context: Any) -> Tensor:
        x = wanted(x, context) + attn_out_norm(out.run(attend(attn_norm(x), context)))
        if cross is not None:
            x = x + cross(cross_norm(x), context)
        return x + mlp_out_norm(down.run(hidden(mlp_norm(x))))

    def post(x: Tensor, context: Any) -> Tensor:
        x = attn_norm(add_out(attend(x, context), wanted(x, context)))
        if cross is not None:
            x = cross_norm(x + cross(x, context))
        return mlp_norm(add_down(hidden(x), x))

    def parallel(x: Tensor, context: Any) -> Tensor:
        h = attn_norm(x)
        x = wanted(x, context)
        y = add_out(attend(h, context), x)
        if cross is not None:
            y = y + cross(cross_norm(y), context)
        return add_down(hidden(wanted(h, context) if shared_norm else mlp_norm(x)), y)

    orders: Mapping[Order, Callable[[Tensor, Any], Tensor]] = {
        "pre": pre, "sandwich": sandwich, "post": post, "parallel": parallel,
    }  # fmt: skip
    return orders[block.order]


def _cross_attention(attn: Attention | None, kind: Kind, index: int) -> Attend | None:
    """Attention over what an encoder made, if there is such; what it gives is added."""
    if attn is None:
        return None
    attend, out = attend_encoded(attn, kind, index), projection(kind, attn.out).run
    return lambda x, context: out(attend(x, context))


def _mlp(mlp: MLP, kind: Kind) -> tuple[Layer, Projection]:
    """The layers up to the last one, and that one."""
    up, down = projection(kind, mlp.up), projection(kind, mlp.down)
    if mlp.gate is None:
        return up.then(mlp.activation), down
    gate, rise = projection(kind, mlp.gate).then(mlp.activation), up.run
    return lambda x: gate(x).mul_(rise(x)), down
