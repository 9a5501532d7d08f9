"""Stacks as plain operations, for decoding: calls of modules take longer than the many small operations of a token.

What comes out is the same, whatever happens to weights and attributes between two texts. Only what is built of the
layers here is prepared; what somebody put something of their own into, a hook or another kind of layer, runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

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

SMALL = 2**16
"""A matrix of up to so many numbers is multiplied with in less time than the call takes. Those of queries, keys and
values are then copied beside each other, for one text."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def prepared(stack: Stack) -> Run | None:
    """What runs a stack, in calls with a cache; None where the stack must run itself. For one text: it is soon made."""
    if torch.is_grad_enabled() or not _is_plain(stack):
        return None
    blocks = [_block(block, index) for index, block in enumerate(stack.blocks) if isinstance(block, Block)]
    norm = _norm(stack.norm)

    def run(x: Tensor, context: Context) -> Tensor:
        for block in blocks:
            x = block(x, context)
        return norm(x)

    return run


def _is_plain(stack: Stack) -> bool:
    hooks = torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks
    if stack.training or hooks:
        return False
    for part in stack.modules():
        state = part.__dict__
        if "forward" in state or any(state[name] for name in HOOKS):  # replaced on the object itself, or listened to
            return False
        if isinstance(part, Attention | MLP) and any(type(linear) is not nn.Linear for linear in _linear(part)):
            return False
    return all(
        type(block) is Block and all(type(part) in (Attention, MLP) for part in (block.attn, block.mlp, *_cross(block)))
        for block in stack.blocks
    )


def _cross(block: Block) -> list[nn.Module]:
    return [] if block.cross is None else [block.cross]


def _linear(layer: nn.Module) -> list[nn.Module]:
    names = ("q", "k", "v", "out", "gate", "up", "down")
    return [part for name in names if (part := getattr(layer, name, None)) is not None]


def _block(block: Block, index: int) -> Run:
    """A block; its orders are those of `Block`."""
    attend, mlp = _attention(block.attn, index), _mlp(block.mlp)
    cross = None if block.cross is None else _cross_attention(block.cross, index)
    attn_norm, cross_norm, mlp_norm = map(_norm, (block.attn_norm, block.cross_norm, block.mlp_norm))
    attn_out_norm, mlp_out_norm = _norm(block.attn_out_norm), _norm(block.mlp_out_norm)
    shared_norm = block.mlp_norm is None

    def pre(x: Tensor, context: Context) -> Tensor:
        x = x + attn_out_norm(attend(attn_norm(x), context))
        if cross is not None:
            x = x + cross(cross_norm(x), context)
        return x + mlp_out_norm(mlp(mlp_norm(x)))

    def post(x: Tensor, context: Context) -> Tensor:
        x = attn_norm(x + attend(x, context))
        if cross is not None:
            x = cross_norm(x + cross(x, context))
        return mlp_norm(x + mlp(x))

    def parallel(x: Tensor, context: Context) -> Tensor:
        h = attn_norm(x)
        y = x + attend(h, context)
        if cross is not None:
            y = y + cross(cross_norm(y), context)
        return y + mlp(h if shared_norm else mlp_norm(x))

    return {"pre": pre, "sandwich": pre, "post": post, "parallel": parallel}[block.order]


def _attention(attn: Attention, index: int) -> Run:
    """Attention over what was decoded."""
    project, project_out = _projections(attn), _projection(attn.out)
    q_norm, k_norm, shared = _norm(attn.q_norm), _norm(attn.k_norm), attn.q.out_features != attn.k.out_features

    def attend(x: Tensor, context: Context) -> Tensor:
        rows, length, _ = x.shape
        rotary, window = attn.rotary, attn.window
        assert context.cache is not None
        cache = context.cache.own[index]
        mask: Tensor | None = None
        causal = False
        if length > 1 or window is not None or context.mask is not None or context.bias is not None:
            mask, causal = context.look(length, cache.length + length, window, x.device)
        q, k, v = project(x)
        q, k = q_norm(q), k_norm(k)
        if rotary is not None:
            rotation = context.rotation(rotary)
            assert rotation is not None
            q, k = rotate(q, rotation), rotate(k, rotation)
        k, v = cache.append(k, v)
        if mask is None and attn.softcap is None:
            y = F.scaled_dot_product_attention(q, k, v, None, 0.0, causal, scale=attn.scale, enable_gqa=shared)
        else:
            y = attn.attend(q, k, v, mask, causal, None)
        return project_out(y.transpose(1, 2).reshape(rows, length, -1))

    return attend


def _projections(attn: Attention) -> Callable[[Tensor], Sequence[Tensor]]:
    """From [batch, length, width] to queries, keys and values, [batch, heads, length, channels] each."""
    layers, channels = (attn.q, attn.k, attn.v), attn.head_dim
    if all(layer.weight.numel() <= SMALL for layer in layers) and len({layer.weight.dtype for layer in layers}) == 1:
        counts = [layer.out_features // channels for layer in layers]
        weight = torch.cat([layer.weight for layer in layers])
        biases: list[Tensor] = [
            weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers
        ]
        bias = None if all(layer.bias is None for layer in layers) else torch.cat(biases)

        def project_at_once(x: Tensor) -> Sequence[Tensor]:
            heads = F.linear(x, weight, bias).view(x.size(0), x.size(1), -1, channels).transpose(1, 2)
            return torch.split_with_sizes(heads, counts, 1)

        return project_at_once
    one, two, three = map(_projection, layers)

    def project(x: Tensor) -> Sequence[Tensor]:
        shape = x.size(0), x.size(1), -1, channels
        q, k, v = one(x).view(shape), two(x).view(shape), three(x).view(shape)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    return project


def _cross_attention(attn: Attention, index: int) -> Run:
    """Attention over what an encoder made, which the cache keeps after the first call."""
    project_q, project_out = _projection(attn.q), _projection(attn.out)
    q_norm = _norm(attn.q_norm)

    def attend(x: Tensor, context: Context) -> Tensor:
        assert context.cache is not None
        cache = context.cache.cross[index]
        if not cache.length:
            return attn.forward(x, context.encoded, mask=context.encoded_mask, cache=cache)
        k, v = cache.read()
        rows, length, _ = x.shape
        q = project_q(x).view(len(k), -1, attn.num_heads, attn.head_dim)  # see `Attention.forward`
        y = attn.attend(q_norm(q).transpose(1, 2), k, v, context.encoded_mask, False, None)
        return project_out(y.transpose(1, 2).reshape(rows, length, -1))

    return attend


def _mlp(mlp: MLP) -> Layer:
    up, down = _projection(mlp.up), _projection(mlp.down)
    if mlp.gate is None:
        return lambda x: down(mlp.activation(up(x)))
    gate = _projection(mlp.gate)
    return lambda x: down(mlp.activation(gate(x)) * up(x))


def _projection(layer: nn.Linear) -> Layer:
    weights: Mapping[str, Any] = layer._parameters  # to look there is faster than to ask the module
    return lambda x: F.linear(x, weights["weight"], weights["bias"])


def _norm(norm: nn.Module | None) -> Layer:
    """A norm; where there is none, nothing."""
    if norm is None:
        return lambda x: x
    if type(norm) is not nn.LayerNorm:
        return norm.forward
    weights: Mapping[str, Any] = norm._parameters
    return lambda x: torch.layer_norm(x, norm.normalized_shape, weights["weight"], weights["bias"], norm.eps)
