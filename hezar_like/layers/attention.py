"""Multi-head attention (Vaswani et al., 2017) and its variants."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import KeyValues
from .rotary import Rotary, Rotation, rotate

AttendInstead: TypeAlias = Callable[["Attention", Tensor, Tensor, Tensor], Tensor]
"""From an attention, and queries, keys and values, [batch, heads, length, head_dim], to [batch, heads, queries,
head_dim]."""


class Attention(nn.Module):
    """Multi-head attention of hidden states over themselves or over others.

    Args:
        width: Size of the hidden states.
        num_heads: Number of heads.
        num_kv_heads: Number of heads of keys and values, each shared by as many heads of queries; default: as many
            (Ainslie et al., 2023: https://arxiv.org/abs/2305.13245).
        head_dim: Channels of each head; default: `width // num_heads`.
        out_width: Size of what is returned; default: `width`.
        bias: Whether the projections to queries, keys and values have biases; or which of "q", "k" and "v" have.
        out_bias: Whether the output projection has one; default: as the others, or some of them.
        scale: What scores are multiplied with; default: one over the root of `head_dim`.
        softcap: Scores are kept below it, smoothly (Gemma 2); default: not.
        dropout: Dropout probability on the attention probabilities while training.
        norm: Makes a norm for the channels of one head, given their number; queries and keys are normed with it.
        rotary: Turns queries and keys by their positions.
        window: In a causal pass, how many keys up to its own a query sees; default: all.

    Raises:
        ValueError: When `head_dim` is not given and the heads do not divide the width.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        out_width: int | None = None,
        bias: bool | Collection[str] = True,
        out_bias: bool | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        norm: Callable[[int], nn.Module] | None = None,
        rotary: Rotary | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if head_dim is None:
            if width % num_heads:
                raise ValueError(f"width={width} is not divisible by num_heads={num_heads}; give head_dim.")
            head_dim = width // num_heads
        kv_width = (num_heads if num_kv_heads is None else num_kv_heads) * head_dim
        biased = (("q", "k", "v") if bias else ()) if isinstance(bias, bool) else bias
        self.q = nn.Linear(width, num_heads * head_dim, "q" in biased)
        self.k = nn.Linear(width, kv_width, "k" in biased)
        self.v = nn.Linear(width, kv_width, "v" in biased)
        self.out = nn.Linear(num_heads * head_dim, out_width or width, bool(biased) if out_bias is None else out_bias)
        self.q_norm = norm(head_dim) if norm else None
        self.k_norm = norm(head_dim) if norm else None
        self.num_heads, self.head_dim = num_heads, head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.softcap, self.dropout, self.rotary, self.window = softcap, dropout, rotary, window

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
        cache: KeyValues | None = None,
        head_mask: Tensor | None = None,
        probabilities: list[Tensor] | None = None,
        instead: AttendInstead | None = None,
    ) -> Tensor:
        """Attends.

        Args:
            x: Hidden states, [batch, queries, width].
            source: What is looked at, [batch, keys, width]; default: `x`. It may have fewer rows, each for as many
                neighbouring rows of `x`; a mask is then one for all of these.
            mask: Broadcastable to [batch, heads, queries, keys]. Bool: True = look; float: added to the scores. A query
                that may look at nothing gets zeros from all heads. None: look everywhere.
            causal: Look at no later key; only without a mask, and with as many queries as keys.
            rotation: Of the positions of `x`, from the layer's `rotary`.
            cache: Earlier keys and values, before those of `x`, which are added to it. With `source`: kept there at the
                first call, and taken from there later, where it may have one row for several of `x` beside each other.
            head_mask: What the output of each head is multiplied with, [heads].
            probabilities: The attention probabilities are added to this list; that takes the slower, explicit way.
            instead: Takes the place of `attend`; the masks are its own then.

        Returns:
            [batch, queries, width].
        """
        q = self._heads(self.q(x), self.q_norm)
        if rotation is not None:
            q = rotate(q, rotation)
        if source is not None and cache is not None and cache.length:
            k, v = cache.read()
        else:
            seen = x if source is None else source
            k, v = self._heads(self.k(seen), self.k_norm), self._heads(self.v(seen), None)
            if rotation is not None:
                k = rotate(k, rotation)
            if cache is not None:
                k, v = cache.append(k, v)
        if instead is not None:
            return self.out(instead(self, q, k, v).transpose(1, 2).flatten(2))
        rows = q.size(0) // k.size(0)
        if rows > 1:  # what looks at the same keys are queries of one row: nothing is copied for them
            q = q.view(-1, rows, *q.shape[1:]).transpose(1, 2).flatten(2, 3)
        # A cache keeps the type of what came first, which may have been another.
        y = self.attend(q.to(k.dtype), k, v, mask, causal, probabilities).to(q.dtype)
        if rows > 1:
            y = _apart(y, rows)
            if probabilities is not None:
                probabilities[-1] = _apart(probabilities[-1], rows)
        if head_mask is not None:
            y = y * head_mask[:, None, None]
        return self.out(y.transpose(1, 2).flatten(2))

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        probabilities: list[Tensor] | None,
    ) -> Tensor:
        """Queries, keys and values, each [batch, heads, length, head_dim], to [batch, heads, queries, head_dim]."""
        dropout = self.dropout if self.training else 0.0
        shared = k.size(1) != q.size(1)
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)
        if probabilities is None and self.softcap is None:
            return F.scaled_dot_product_attention(
                q, k, v, mask, dropout, is_causal=causal, scale=self.scale, enable_gqa=shared
            )
        if causal:
            mask = torch.ones(q.size(2), k.size(2), dtype=torch.bool, device=q.device).tril()
        grouped = (*k.shape[:2], -1)  # heads that share keys stand below each other: nothing is copied for them
        scale = self.scale if self.softcap is None else self.scale / self.softcap
        scores = (q * scale).reshape(*grouped, q.size(3)) @ k.mT
        weights = self._probabilities(scores.view(*q.shape[:3], k.size(2)), mask)
        if probabilities is not None:
            probabilities.append(weights)
        if dropout:
            weights = F.dropout(weights, dropout)
        return (weights.view(*grouped, k.size(2)) @ v).view(*q.shape[:3], v.size(3))

    def _probabilities(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Scores, as parts of `softcap` if there is one, to probabilities; what no gradient needs is overwritten."""
        if self.softcap is not None:
            scores = scores.tanh() * self.softcap if scores.requires_grad else scores.tanh_().mul_(self.softcap)
        if mask is None:
            return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
        if mask.is_floating_point():
            scores = scores + mask
            blind = (scores == float("-inf")).all(-1, keepdim=True)
            unseen, filling = blind, 0.0
        else:
            blind = ~mask.any(-1, keepdim=True)
            unseen, filling = ~mask, torch.finfo(scores.dtype).min
        # Rows of infinities would make softmax and its gradient NaN.
        fill = Tensor.masked_fill if scores.requires_grad else Tensor.masked_fill_
        weights = fill(scores, unseen, filling).softmax(-1, dtype=torch.float32).to(scores.dtype)
        return fill(weights, blind, 0.0)

    def _heads(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        x = x.view(*x.shape[:-1], -1, self.head_dim)
        if norm is not None:
            x = norm(x)
        return x.transpose(1, 2)


def _apart(x: Tensor, rows: int) -> Tensor:
    """[batch, heads, rows * queries, any] to [batch * rows, heads, queries, any]."""
    return x.view(*x.shape[:2], rows, -1, x.size(3)).transpose(1, 2).flatten(0, 1)


def attention_mask_to_look(attention_mask: Tensor | None) -> Tensor | None:
    """Brings the mask of the model's edge (1 = look) into the form `Attention` takes.

    Args:
        attention_mask: [batch, keys], [batch, queries, keys] or [batch, heads, queries, keys], any dtype; or None.

    Returns:
        Bool, four dimensions; None for None.

    Raises:
        ValueError: For another number of dimensions.
    """
    if attention_mask is None:
        return None
    look = attention_mask.bool()
    if look.ndim == 2:
        return look[:, None, None, :]
    if look.ndim == 3:
        return look[:, None]
    if look.ndim == 4:
        return look
    raise ValueError(f"attention_mask has {look.ndim} dimensions; give [batch, length] or up to 4 dimensions.")
