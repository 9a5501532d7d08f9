"""Attention as operations, without its output layer: over what was decoded, over an encoder, and of packed texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import Context
from ..layers import Attention
from ..layers.rotary import rotate
from .copies import beside
from .flash import attend_at_once, attends_at_once
from .kinds import Kind
from .linears import plain, projection
from .norms import normed
from .packing import Bucket, Packed

__all__ = ["Attend", "attend_decoded", "attend_each_text", "attend_encoded", "attend_texts"]

Attend: TypeAlias = Callable[[Tensor, Any], Tensor]
"""From normed [tokens, width] and what the blocks share to [tokens, heads * channels]."""


def attend_decoded(attn: Attention, kind: Kind, index: int) -> Attend:
    """Attention over what was decoded, which the cache of this block keeps."""
    project, q_norm, k_norm = _projections(attn, kind), normed(attn.q_norm, kind), normed(attn.k_norm, kind)
    counts, channels = _heads(attn), attn.head_dim
    rotary, window = attn.rotary, attn.window
    look_at_all = partial(F.scaled_dot_product_attention, scale=attn.scale)
    rounded = _rounded(kind)
    # Then a token is a few operations, whose number is what it costs in small models.
    others = (rotary, window, attn.softcap, attn.q_norm, attn.k_norm)
    is_short = all(other is None for other in others) and counts[0] == counts[1]

    def attend(x: Tensor, context: Context) -> Tensor:
        rows = context.rows
        tokens = x.size(0)
        assert context.cache is not None
        cache = context.cache.own[index]
        parts = project(x)
        everywhere = context.mask is None and context.bias is None
        if is_short and everywhere and tokens == rows and len(parts) == 1 and cache.length:
            q, k, v = cache.append_projected(parts[0], counts[0], channels)
            if k.dtype != q.dtype:
                return look_at_all(q.to(k.dtype), k, v).view(tokens, -1).to(q.dtype)
            return look_at_all(q, k, v).view(tokens, -1)
        length = tokens // rows
        mask: Tensor | None = None
        causal = False
        if length > 1 or window is not None or not everywhere:
            mask, causal = context.look(length, cache.length + length, window, x.device)
        split = [part.view(rows, length, -1, channels).transpose(1, 2) for part in parts]
        q, k, v = split if len(split) > 1 else torch.split_with_sizes(split[0], counts, 1)
        q, k = q_norm(q), k_norm(k)
        if rotary is not None:
            rotation = context.rotation(rotary)
            assert rotation is not None
            q, k = rotate(q, rotation), rotate(k, rotation)
        if rounded is not None:
            k, v = k.to(rounded), v.to(rounded)
        k, v = cache.append(k, v)  # which are all of the type of the first
        y = attn.attend(q.to(k.dtype), k, v, mask, causal, None)
        return y.transpose(1, 2).reshape(tokens, -1).to(x.dtype)

    return attend


def attend_texts(attn: Attention, kind: Kind, *, last: bool) -> Attend:
    """Attention of packed texts, each over itself; `last` says that only what is read is wanted."""
    project, q_norm, k_norm = _projections(attn, kind), normed(attn.q_norm, kind), normed(attn.k_norm, kind)
    changed = any(part is not None for part in (attn.q_norm, attn.k_norm, attn.rotary))
    counts, channels = _heads(attn), attn.head_dim

    def attend(x: Tensor, packed: Packed) -> Tensor:
        parts = [part.view(len(x), part.size(1) // channels, channels) for part in project(x)]
        if changed:
            q, k, v = parts if len(parts) > 1 else parts[0].split_with_sizes(counts, 1)
            q, k = q_norm(q), k_norm(k)
            if attn.rotary is not None:
                rotation = packed.rotation(attn.rotary)
                q, k = (rotate(part.transpose(0, 1)[None], rotation)[0].transpose(0, 1) for part in (q, k))
            parts = [q, k, v]
        return _attend_packed(attn, parts, packed, last=last)

    return attend


def attend_each_text(packed: Packed, attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of packed texts, each over itself, where layers run as modules: with gradients, too.

    Args:
        packed: Of which texts the tokens are.
        attn: Whose.
        q: Queries, [1, heads, tokens, channels].
        k: Keys, [1, heads or fewer, tokens, channels].
        v: Values, likewise.

    Returns:
        [1, heads, tokens, channels].
    """
    parts = [part[0].transpose(0, 1).to(v.dtype) for part in (q, k, v)]  # autocast changes types for torch's only
    y = _attend_packed(attn, parts, packed, last=False)
    return y.view(parts[0].shape).transpose(0, 1)[None]


def attend_encoded(attn: Attention, kind: Kind, index: int) -> Attend:
    """Attention over what an encoder made, which the cache of this block keeps after the first call."""
    project, to_k, to_v = (projection(kind, layer).run for layer in (attn.q, attn.k, attn.v))
    q_norm, k_norm = normed(attn.q_norm, kind), normed(attn.k_norm, kind)
    heads, channels = attn.num_heads, attn.head_dim
    rounded = _rounded(kind)

    def attend(x: Tensor, context: Context) -> Tensor:
        assert context.cache is not None
        cache = context.cache.cross[index]
        if cache.length:
            k, v = cache.read()
        else:
            assert context.encoded is not None
            shape = *context.encoded.shape[:2], -1, channels
            encoded = context.encoded.to(x.dtype).flatten(0, 1)
            k, v = (read(encoded).view(shape) for read in (to_k, to_v))
            k, v = (part.transpose(1, 2).to(rounded or part.dtype) for part in (k_norm(k), v))
            k, v = cache.append(k, v)
        q = q_norm(project(x).view(k.size(0), -1, heads, channels))  # see `Attention.forward`
        y = attn.attend(q.transpose(1, 2).to(k.dtype), k, v, context.encoded_mask, False, None)
        return y.transpose(1, 2).reshape(x.size(0), -1).to(x.dtype)

    return attend


def _rounded(kind: Kind) -> torch.dtype | None:
    """The type that keys and values are kept in; None: their own.

    All of them are read for each token, which takes its time beside weights of 8 bits.
    """
    return torch.bfloat16 if kind == "int8" and torch.cpu._is_amx_tile_supported() else None


def _heads(attn: Attention) -> list[int]:
    """How many heads queries, keys and values have."""
    return [layer.out_features // attn.head_dim for layer in (attn.q, attn.k, attn.v)]


def _projections(attn: Attention, kind: Kind) -> Callable[[Tensor], Sequence[Tensor]]:
    """From [tokens, width] to queries, keys and values, [tokens, heads * channels], or beside each other in one."""
    layers = (attn.q, attn.k, attn.v)
    same = len({layer.weight.dtype for layer in layers}) == 1
    at_once = None
    if same and kind != "plain":
        at_once = projection(kind, *layers)
    elif same and (lying := beside(layers)) is not None:
        at_once = plain(*lying)
    if at_once is not None:
        run = at_once.run
        return lambda x: (run(x),)
    one, two, three = (projection(kind, layer).run for layer in layers)
    return lambda x: (one(x), two(x), three(x))


def _attend_packed(attn: Attention, parts: Sequence[Tensor], packed: Packed, *, last: bool) -> Tensor:
    """Attention of each text over itself.

    Args:
        attn: Whose; its scale and what else there is.
        parts: Queries, keys and values, [tokens, heads, channels] each, or beside each other in one.
        packed: Of which texts they are.
        last: Whether only what is read is wanted.

    Returns:
        [tokens, heads * channels]; or, of one token of each text, [texts, heads * channels].
    """
    counts = _heads(attn) if len(parts) == 1 else [part.size(1) for part in parts]
    last = last and packed.read is not None
    if attends_at_once(attn, packed, parts[0]):
        q, k, v = parts if len(parts) > 1 else parts[0].split_with_sizes(counts, 1)
        y = attend_at_once(attn, q, k, v, packed)
        return y.index_select(0, packed.read) if last and packed.read is not None else y
    # Who reads the last token of a text, or looks at later ones too, sees all of it.
    sees_all = packed.reads == "last" or not packed.context.causal
    by_themselves = last and sees_all and packed.context.bias is None and attn.window is None and attn.softcap is None
    one = len(packed.buckets) == 1 and packed.buckets[0].filled is None
    if one and not last and packed.count == packed.rows:  # nothing is to be put together
        (bucket,) = packed.buckets
        q, k, v = _split(parts, counts, bucket)
        return _attend_each(attn, q, k, v, *bucket.look(attn.window, q.dtype)).flatten(0, 1)
    rows = packed.read if last else None
    result = _Rows(parts[0], len(parts[0]) if rows is None else len(rows), counts[0] * attn.head_dim)
    for bucket in packed.buckets:
        q, k, v = _split(parts, counts, bucket)
        if by_themselves:
            queries = parts[0][bucket.tokens].index_select(0, bucket.read)[:, None, : counts[0]]
            y = _attend_each(attn, queries, k, v, bucket.look_of_read(q.dtype), False)
            places = None
        else:
            y = _attend_each(attn, q, k, v, *bucket.look(attn.window, q.dtype))
            places = bucket.real
            if last:
                places = bucket.read if places is None else places[bucket.read]
        result.add(y.view(-1, y.size(-1)), places)
    return result.whole()


class _Rows:
    """Puts rows together: into one tensor, or, where gradients are wanted, to it in the end."""

    def __init__(self, like: Tensor, count: int, width: int) -> None:
        self._parts: list[Tensor] = []
        self._whole = like.new_empty(count if not torch.is_grad_enabled() else 0, width)
        self._count, self._end = count, 0

    def add(self, rows: Tensor, places: Tensor | None) -> None:
        """Adds rows, all or those at some places."""
        start, self._end = self._end, self._end + len(rows if places is None else places)
        if torch.is_grad_enabled():
            self._parts.append(rows if places is None else rows.index_select(0, places))
        elif places is None:
            self._whole[start : self._end] = rows
        else:
            torch.index_select(rows, 0, places, out=self._whole[start : self._end])

    def whole(self) -> Tensor:
        """All rows, and zeros behind them up to the count."""
        if torch.is_grad_enabled():
            return torch.cat((*self._parts, self._whole.new_zeros(self._count - self._end, self._whole.size(1))))
        self._whole[self._end :] = 0
        return self._whole


def _split(parts: Sequence[Tensor], counts: list[int], bucket: Bucket) -> Sequence[Tensor]:
    """The queries, keys and values of a bucket, [texts, length, heads, channels] each."""
    filled = [bucket.fill(part) for part in parts]
    return filled[0].split_with_sizes(counts, 2) if len(filled) == 1 else filled


def _attend_each(attn: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """[texts, length, heads, channels] each to [texts, length, heads * channels]."""
    y = attn.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, causal, None)
    return y.transpose(1, 2).flatten(2)
