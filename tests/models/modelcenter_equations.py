"""The equations of ModelCenter's layers and blocks, in plain torch and float64, and inputs for them.

They read the weights of our modules and nothing else of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from comparing import perturb
from torch import Tensor, nn

from hezar_like.blocks import Block
from hezar_like.layers import MLP, Attention, RMSNorm

WIDTH, HIDDEN, HEADS, HEAD_DIM = 32, 48, 4, 10  # the heads together are wider than the model
QUERIES, KEYS = 7, 9
HIDE = float("-inf")


def close(ours: Tensor, theirs: Tensor, tolerance: float = 2e-5) -> None:
    assert ours.shape == theirs.shape
    assert (ours.double() - theirs).abs().max() <= tolerance * theirs.std()


def randomized(module: nn.Module, seed: int = 0) -> Any:
    """The module without any trivial weight."""
    perturb(module, seed)
    return module


ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x * (x > 0),
    "gelu": lambda x: x / 2 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


def linear(x: Tensor, layer: nn.Linear, length_scale: bool = False, before: bool = False) -> Tensor:
    root = math.sqrt(layer.weight.size(1)) if length_scale else 1.0
    y = torch.einsum("...i,oi->...o", x.double() / (root if before else 1.0), layer.weight.double())
    y = y if before else y / root
    return y if layer.bias is None else y + layer.bias.double()


def normed(x: Tensor, norm: Any) -> Tensor:
    x, bias = x.double(), getattr(norm, "bias", None)
    if bias is None:
        return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double() + bias.double()


def turned(x: Tensor, dim: int) -> Tensor:
    """Neighbouring channels of [batch, length, heads, channels] as complex numbers, each turned by its position."""
    pairs = torch.view_as_complex(x[..., :dim].unflatten(-1, (-1, 2)).contiguous())
    speed = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(x.size(1), dtype=torch.float64)[:, None, None] * speed
    turn = torch.polar(torch.ones_like(angle), angle)
    return torch.cat((torch.view_as_real(pairs * turn).flatten(-2), x[..., dim:]), -1)


def dropped(x: Tensor, p: float) -> Tensor:
    """In float32, because another type draws other random numbers."""
    return F.dropout(x.float(), p).double() if p else x


def attended(
    layer: Attention,
    query: Tensor,
    key_value: Tensor,
    mask: Tensor,
    position_bias: Tensor | None = None,
    *,
    attn_scale: bool = False,
    mask_value: float = HIDE,
    rotary_dim: int = 0,
    length_scale: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    q, k, v = (
        linear(x, part, length_scale).unflatten(-1, (HEADS, -1))
        for x, part in ((query, layer.q), (key_value, layer.k), (key_value, layer.v))
    )
    if rotary_dim:
        q, k = turned(q, rotary_dim), turned(k, rotary_dim)
    scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / (math.sqrt(q.size(-1)) if attn_scale else 1.0)
    if position_bias is not None:
        scores = scores + position_bias.double()
    hidden = mask[:, None] == 0
    weights = scores.masked_fill(hidden, mask_value).softmax(-1).masked_fill(hidden, 0.0)
    weights = dropped(weights, dropout)
    return linear(torch.einsum("bhqk,bkhc->bqhc", weights, v).flatten(2), layer.out, length_scale)


def fed_forward(layer: MLP, x: Tensor, activate_fn: str, length_scale: bool = False, dropout: float = 0.0) -> Tensor:
    activate = ACTIVATE[activate_fn.removeprefix("gated_")]
    up = linear(x, layer.up, length_scale)
    h = activate(linear(x, layer.gate, length_scale)) * up if activate_fn.startswith("gated_") else activate(up)
    return linear(dropped(h, dropout), layer.down, length_scale, before=True)


def block_output(
    block: Block,
    x: Tensor,
    attend: Callable[[Tensor], Tensor],
    feed: Callable[[Tensor], Tensor],
    cross: Callable[[Tensor], Tensor] | None = None,
    norms: Any = None,
    *,
    post_layer_norm: bool = False,
    parallel_ffn: bool = False,
) -> Tensor:
    before_attention, before_ffn = norms or (block.attn_norm, block.mlp_norm)
    h = normed(x, before_attention)
    y = (h if post_layer_norm else x.double()) + attend(h)
    if cross is not None:
        y = y + cross(normed(y, block.cross_norm))
    h = normed(x if parallel_ffn else y, before_ffn)
    return (h if post_layer_norm else y) + feed(h)


def bucket(distance: int, num_buckets: int, max_distance: int, bidirectional: bool) -> int:
    """In whole numbers: log(d/e) / log(m/e) * n >= j is d^n * e^j >= m^j * e^n."""
    part = num_buckets // 2 if bidirectional else num_buckets
    exact = part // 2
    far, n = abs(distance), part - exact
    found = far
    if far >= exact:
        found = exact + max(j for j in range(n) if far**n * exact**j >= max_distance**j * exact**n)
    return found + part * (distance < 0) if bidirectional else found * (distance >= 0)


def states(length: int = QUERIES) -> Tensor:
    return torch.randn(2, length, WIDTH)


def some_mask(queries: int = QUERIES, keys: int = QUERIES) -> Tensor:
    """[batch, queries, keys]; one query of the first row and all of the second's last three see nothing."""
    mask = torch.rand(2, queries, keys) > 0.4
    mask[:, :, 0] = True
    mask[0, 2] = mask[1, -3:] = False
    return mask


def attention(**options: Any) -> Attention:
    return Attention(WIDTH, HEADS, **{"head_dim": HEAD_DIM, "bias": False, "scale": 1.0} | options)


def mlp(**options: Any) -> MLP:
    return MLP(WIDTH, HIDDEN, **{"activation": "gelu", "gated": True, "bias": False} | options)


rms = partial(RMSNorm, WIDTH, 1e-5)
layer_norm = partial(nn.LayerNorm, WIDTH, 1e-5)


def folded(module: nn.Module) -> Any:
    """The module, each of its linear weights divided by the root of its number of inputs."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.data /= part.weight.size(1) ** 0.5
    return module
