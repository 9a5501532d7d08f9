"""Stacks as plain operations, for decoding: one token is many small ones, and calling modules takes longer than them.

What comes out is the same. Only what is built of the layers here is prepared; what somebody has put something of their
own into, a hook or another kind of layer, runs as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..blocks import Block, Context, Stack
from ..layers import MLP, Attention
from ..layers.rotary import rotate

__all__ = ["prepared"]

Run: TypeAlias = Callable[[Tensor, Context], Tensor]
Layer: TypeAlias = Callable[[Tensor], Tensor]
Signature: TypeAlias = tuple[tuple[int, torch.dtype], ...]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_lock = threading.Lock()
_known: WeakKeyDictionary[Stack, tuple[Signature, Run]] = WeakKeyDictionary()


def prepared(stack: Stack) -> Run | None:
    """What runs a stack, in a call with a cache; None where the stack must run itself.

    It is made once and again whenever weights were replaced. Weights of queries, keys and values are laid beside each
    other in memory, so that one operation multiplies with all of them; they stay parameters of their modules.
    """
    if torch.is_grad_enabled() or not _is_plain(stack):
        return None
    with _lock:
        found = _known.get(stack)
        if found is None or found[0] != _signature(stack):
            with torch.inference_mode(False), torch.no_grad():  # the weights must still be good for training
                blocks = [_block(block, index) for index, block in enumerate(stack.blocks) if isinstance(block, Block)]
            found = _known[stack] = (_signature(stack), _in_order(blocks, _norm(stack.norm)))
    return found[1]


def _signature(stack: Stack) -> Signature:
    """Where the weights are: other ones, or moved ones, are elsewhere."""
    return tuple((parameter.data_ptr(), parameter.dtype) for parameter in stack.parameters())


def _is_plain(stack: Stack) -> bool:
    hooks = torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks
    parts = list(stack.modules())
    return not (
        stack.training
        or hooks
        or any(getattr(part, name) for part in parts for name in HOOKS)
        or any("forward" in part.__dict__ for part in parts)  # replaced on the object itself
        or any(type(block) is not Block for block in stack.blocks)
        or any(type(part) not in (Attention, MLP) for block in stack.blocks for part in _layers(block))
        or any(
            type(part) not in (nn.Linear,)
            for layer in parts
            if isinstance(layer, Attention | MLP)
            for part in _linear(layer)
        )
    )


def _layers(block: nn.Module) -> list[nn.Module]:
    return [part for name in ("attn", "cross", "mlp") if (part := getattr(block, name)) is not None]


def _linear(layer: nn.Module) -> list[nn.Module]:
    names = ("q", "k", "v", "out", "gate", "up", "down")
    return [part for name in names if (part := getattr(layer, name, None)) is not None]


def _in_order(blocks: list[Run], norm: Layer | None) -> Run:
    def run(x: Tensor, context: Context) -> Tensor:
        for block in blocks:
            x = block(x, context)
        return x if norm is None else norm(x)

    return run


def _block(block: Block, index: int) -> Run:
    """A block; its orders are those of `Block`."""
    attend, mlp = _attention(block.attn, index), _mlp(block.mlp)
    cross = None if block.cross is None else _cross_attention(block.cross, index)
    attn_norm, cross_norm, mlp_norm = map(_norm, (block.attn_norm, block.cross_norm, block.mlp_norm))
    attn_out_norm, mlp_out_norm = _norm(block.attn_out_norm), _norm(block.mlp_out_norm)
    assert attn_norm is not None

    def pre(x: Tensor, context: Context) -> Tensor:
        y = attend(attn_norm(x), context)
        x = x + (y if attn_out_norm is None else attn_out_norm(y))
        if cross is not None:
            x = x + cross(cross_norm(x), context)  # type: ignore[misc]  # there is one where there is the other
        y = mlp(mlp_norm(x))  # type: ignore[misc]  # only parallel layers share one
        return x + (y if mlp_out_norm is None else mlp_out_norm(y))

    def post(x: Tensor, context: Context) -> Tensor:
        x = attn_norm(x + attend(x, context))
        if cross is not None:
            x = cross_norm(x + cross(x, context))  # type: ignore[misc]
        return mlp_norm(x + mlp(x))  # type: ignore[misc]

    def parallel(x: Tensor, context: Context) -> Tensor:
        h = attn_norm(x)
        y = x + attend(h, context)
        if cross is not None:
            y = y + cross(cross_norm(y), context)  # type: ignore[misc]
        return y + mlp(h if mlp_norm is None else mlp_norm(x))

    return {"pre": pre, "sandwich": pre, "post": post, "parallel": parallel}[block.order]


def _attention(attn: Attention, index: int) -> Run:
    """Attention over what was decoded."""
    weight, bias = _beside(attn.q, attn.k, attn.v)
    out, out_bias = attn.out.weight, attn.out.bias
    width, channels, window, rotary = attn.num_heads * attn.head_dim, attn.head_dim, attn.window, attn.rotary
    heads = attn.num_heads
    kv_heads = attn.k.out_features // channels
    counts, shared = (heads, kv_heads, kv_heads), heads != kv_heads
    q_norm, k_norm, scale, softcap, explicit = (
        _norm(attn.q_norm),
        _norm(attn.k_norm),
        attn.scale,
        attn.softcap,
        attn.attend,
    )

    plain = q_norm is None and k_norm is None and rotary is None

    def attend(x: Tensor, context: Context) -> Tensor:
        rows, length = x.size(0), x.size(1)
        cache = context.cache.own[index]  # type: ignore[union-attr]
        past = cache.length
        mask: Tensor | None = None
        causal = False
        if length > 1 or window is not None or context.mask is not None or context.bias is not None:
            mask, causal = context.look(length, past + length, window, x.device)
        all_heads = F.linear(x, weight, bias).view(rows, length, -1, channels).transpose(1, 2)
        if plain:
            q = all_heads.narrow(1, 0, heads)
            k, v = cache.append_both(all_heads.narrow(1, heads, 2 * kv_heads))
        else:
            q, k, v = torch.split_with_sizes(all_heads, counts, 1)
            q = q if q_norm is None else q_norm(q)
            k = k if k_norm is None else k_norm(k)
            if rotary is not None:
                rotation = context.rotation(rotary)
                assert rotation is not None
                q, k = rotate(q, rotation), rotate(k, rotation)
            k, v = cache.append(k, v)
        if softcap is None:
            if mask is not None and mask.is_floating_point():
                mask = mask.to(q.dtype)
            y = F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=shared)
        else:
            y = explicit(q, k, v, mask, causal, None)
        return F.linear(y.transpose(1, 2).reshape(rows, length, width), out, out_bias)

    return attend


def _cross_attention(attn: Attention, index: int) -> Run:
    """Attention over what an encoder made, which the cache keeps after the first call."""
    q_weight, q_bias = attn.q.weight, attn.q.bias
    out, out_bias = attn.out.weight, attn.out.bias
    heads, channels, scale, plain = attn.num_heads, attn.head_dim, attn.scale, attn.forward
    simple = attn.q_norm is None and attn.softcap is None and attn.rotary is None

    def attend(x: Tensor, context: Context) -> Tensor:
        cache = context.cache.cross[index]  # type: ignore[union-attr]
        if not cache.length or not simple:
            return plain(x, context.encoded, mask=context.encoded_mask, cache=cache)
        k, v = cache.read()
        rows, length = x.size(0), x.size(1)
        q = F.linear(x, q_weight, q_bias).view(len(k), -1, heads, channels)  # see `Attention.forward`
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, context.encoded_mask, scale=scale)
        return F.linear(y.transpose(1, 2).reshape(rows, length, -1), out, out_bias)

    return attend


def _mlp(mlp: MLP) -> Layer:
    up, up_bias = mlp.up.weight, mlp.up.bias
    down, down_bias = mlp.down.weight, mlp.down.bias
    activation, gate = mlp.activation, mlp.gate
    if gate is None:
        return lambda x: F.linear(activation(F.linear(x, up, up_bias)), down, down_bias)
    weight, bias = gate.weight, gate.bias
    return lambda x: F.linear(activation(F.linear(x, weight, bias)) * F.linear(x, up, up_bias), down, down_bias)


def _norm(norm: nn.Module | None) -> Layer | None:
    if type(norm) is nn.LayerNorm:
        shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
    return None if norm is None else norm.forward


def _beside(*layers: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of layers with one input, as those of one layer; they become parts of it."""
    weight = torch.cat([layer.weight.data for layer in layers])
    biases = [layer.bias for layer in layers]
    bias = None
    if any(own is not None for own in biases):
        zeros = [weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.data for layer in layers]
        bias = torch.cat(zeros)
    start = 0
    for layer in layers:
        end = start + layer.out_features
        layer.weight.data = weight[start:end]
        if layer.bias is not None and bias is not None:
            layer.bias.data = bias[start:end]
        start = end
    return weight, bias
