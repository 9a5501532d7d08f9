"""Attention of texts of any lengths in one kernel, on CUDA (Dao, 2023: https://arxiv.org/abs/2307.08691)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..layers import Attention
from .packing import Packed

__all__ = ["attend_at_once", "attends_at_once"]

CHANNELS = 256
"""Of heads of more the kernel knows nothing."""


def attends_at_once(attn: Attention, packed: Packed, query: Tensor) -> bool:
    """Whether the kernel can do it, which adds nothing to scores, and drops none."""
    drops = attn.training and attn.dropout
    plain = packed.context.bias is None and attn.softcap is None and not drops and bool(packed.lengths)
    return plain and attn.head_dim <= CHANNELS and attn.head_dim % 8 == 0 and _kernel_for(query) is not None


def attend_at_once(attn: Attention, q: Tensor, k: Tensor, v: Tensor, packed: Packed) -> Tensor:
    """Attention of each text over itself.

    Args:
        attn: Whose; its scale and window.
        q: Queries, [tokens, heads, channels] in float16 or bfloat16.
        k: Keys, [tokens, heads or fewer, channels].
        v: Values, likewise.
        packed: Of which texts they are.

    Returns:
        [tokens, heads * channels].
    """
    kernel = _kernel_for(q)
    assert kernel is not None
    # Of a window torch counts the keys before one's own.
    earlier = -1 if attn.window is None or not packed.context.causal else attn.window - 1
    window = earlier, 0 if packed.context.causal else -1
    starts, longest = packed.starts, max(packed.lengths)
    shared = k.size(1) != q.size(1)
    y: Tensor = kernel(
        q, k, v, starts, starts, longest, longest, scale=attn.scale, window_size=window, enable_gqa=shared
    )
    return y.flatten(1)


def _kernel_for(query: Tensor) -> Callable[..., Any] | None:
    """torch's, which knows no float32."""
    return _kernel(query.device) if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) else None


@cache
def _kernel(device: torch.device) -> Callable[..., Any] | None:
    """torch's, where the GPU runs it, and this torch gives it scales, windows and shared keys; it did not always."""
    if torch.version.cuda is None or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    from torch.nn.attention.varlen import varlen_attn  # it takes its time to import

    takes = inspect.signature(varlen_attn).parameters
    return varlen_attn if takes.keys() >= {"scale", "window_size", "enable_gqa"} else None
