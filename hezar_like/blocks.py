"""Blocks are made of layers, stacks of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import MLP, AttendInstead, Attention, Cache, RelativeBias, Rotary, Rotation, Trace
from .layers.substitutes import substitute, trained

__all__ = ["Block", "Context", "Order", "Stack"]

Order = Literal["pre", "post", "parallel", "sandwich"]


@dataclass
class Context:
    """What the blocks of one pass share.

    Attributes:
        mask: Bool, broadcastable to [batch, heads, queries, keys]; True = look. None: look everywhere.
        present: What is a token and no padding, [batch, length] bool, where that is all the mask says.
        causal: Look at no later key either.
        bias: Added to the scores, broadcastable to [batch, heads, queries, keys]; default: what the stack has.
        positions: For rotary positions, [batch or 1, queries] int64.
        cache: Earlier keys and values.
        encoded: The output of an encoder, for attention over it, [batch, length, width].
        encoded_mask: What of it may be seen, like `mask`; or float, added to the scores.
        head_mask: What the output of each head is multiplied with, [blocks, heads].
        cross_head_mask: The same for the attention over `encoded`.
        memories: For each block earlier inputs of it, [batch, length, width]; they are normed and seen like the others.
        trace: Collects what the caller wants to see.
        rows: The batch, for what sees tokens without it.
        attend: What attends in place of the layer, given it, queries, keys and values; it decides who sees whom, and
            goes with nothing here but positions.
    """

    mask: Tensor | None = None
    present: Tensor | None = None
    causal: bool = False
    bias: Tensor | None = None
    positions: Tensor | None = None
    cache: Cache | None = None
    encoded: Tensor | None = None
    encoded_mask: Tensor | None = None
    head_mask: Tensor | None = None
    cross_head_mask: Tensor | None = None
    memories: Sequence[Tensor] | None = None
    trace: Trace = field(default_factory=Trace)
    rows: int = 0
    attend: AttendInstead | None = None
    _looks: dict[int | None, tuple[Tensor | None, bool]] = field(default_factory=dict, init=False, repr=False)
    _rotations: dict[int, Rotation] = field(default_factory=dict, init=False, repr=False)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked for beside the result, and nothing but attention masks changes it."""
        others = (
            self.head_mask, self.cross_head_mask, self.memories, self.attend,
            self.trace.attentions, self.trace.hidden_states,
        )  # fmt: skip
        return all(other is None for other in others)

    @property
    def is_packable(self) -> bool:
        """Whether every text looks at itself only, and its padding can be left out."""
        return self.encoded is None and (self.mask is None or self.present is not None)

    @property
    def has_gaps(self) -> bool:
        """Whether there is padding between tokens of a text; without it they would stand nearer to each other."""
        if self.present is None or self.present.size(1) < 3:
            return False
        begins = (self.present[:, 1:] & ~self.present[:, :-1]).sum(1) + self.present[:, 0]
        return bool((begins > 1).any())

    def look(self, queries: int, keys: int, window: int | None, device: torch.device) -> tuple[Tensor | None, bool]:
        """All rules on who sees whom, as `Attention` takes them: a mask, and whether to look at no later key.

        Made once for all blocks with the same window.
        """
        if window not in self._looks:
            self._looks[window] = self._look(queries, keys, window, device)
        return self._looks[window]

    def _look(self, queries: int, keys: int, window: int | None, device: torch.device) -> tuple[Tensor | None, bool]:
        mask, narrow = self.mask, window is not None and window < keys
        if self.causal and (narrow or queries > 1):
            if queries == keys and mask is None and self.bias is None and not narrow:
                return None, True
            earlier = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
            if window is not None and narrow:
                earlier = earlier.triu(keys - queries - window + 1)
            mask = earlier if mask is None else mask & earlier
        if self.bias is not None:
            mask = self.bias if mask is None else self.bias.masked_fill(~mask, float("-inf"))
        return mask, False

    def rotation(self, rotary: Rotary | None) -> Rotation | None:
        """The rotation of this pass's positions, made once for all blocks that share a `Rotary`."""
        if rotary is None:
            return None
        assert self.positions is not None, "rotary positions need positions"
        if id(rotary) not in self._rotations:
            self._rotations[id(rotary)] = rotary(self.positions)
        return self._rotations[id(rotary)]


class Block(nn.Module):
    """Attention, perhaps attention over an encoder's output, and MLP, each with a residual connection.

    Args:
        attn: The attention.
        mlp: The feed-forward layer.
        norm: Makes a norm; called once for each.
        order: Where the norms are: before each layer (`pre`), after each residual sum (`post`), before both layers side
            by side (`parallel`, GPT-J), or before and after each layer (`sandwich`, Gemma 2).
        cross: The attention over an encoder's output.
        dropout: Dropout probability on what each layer adds.
        shared_norm: Whether parallel layers share one norm.
    """

    def __init__(
        self,
        attn: Attention,
        mlp: MLP,
        norm: Callable[[], nn.Module],
        *,
        order: Order = "pre",
        cross: Attention | None = None,
        dropout: float = 0.0,
        shared_norm: bool = True,
    ) -> None:
        super().__init__()
        self.attn, self.attn_norm = attn, norm()
        self.cross, self.cross_norm = cross, None if cross is None else norm()
        self.mlp, self.mlp_norm = mlp, None if order == "parallel" and shared_norm else norm()
        self.attn_out_norm = norm() if order == "sandwich" else None
        self.mlp_out_norm = norm() if order == "sandwich" else None
        self.order = order
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Context | None = None, index: int = 0) -> Tensor:
        """Runs the block.

        Args:
            x: [batch, length, width].
            context: What the pass is about; default: everything sees everything.
            index: The block's number in its stack.

        Returns:
            The same shape.
        """
        context = Context() if context is None else context
        memory = None if context.memories is None else self.attn_norm(context.memories[index])
        if self.order == "parallel":
            h = self.attn_norm(x)
            y = x + self.dropout(self._attend(h, context, index, memory))
            if self.cross is not None:
                y = self._residual(y, self.cross_norm, lambda h: self._attend_encoded(h, context, index), None)
            return y + self.dropout(self.mlp(h if self.mlp_norm is None else self.mlp_norm(x)))
        x = self._residual(x, self.attn_norm, lambda h: self._attend(h, context, index, memory), self.attn_out_norm)
        if self.cross is not None:
            x = self._residual(x, self.cross_norm, lambda h: self._attend_encoded(h, context, index), None)
        return self._residual(x, self.mlp_norm, self.mlp, self.mlp_out_norm)

    def look(self, x: Tensor, context: Context, index: int) -> tuple[Tensor | None, bool]:
        """Who sees whom in this block, made once for all blocks with the same window; see `Context.look`."""
        past = 0 if context.cache is None else context.cache.own[index].length
        memory = 0 if context.memories is None else context.memories[index].size(1)
        return context.look(x.size(1), memory + past + x.size(1), self.attn.window, x.device)

    def _residual(
        self, x: Tensor, norm: nn.Module | None, layer: Callable[[Tensor], Tensor], out_norm: nn.Module | None
    ) -> Tensor:
        assert norm is not None
        if self.order == "post":
            result: Tensor = norm(x + self.dropout(layer(x)))
            return result
        y = layer(norm(x))
        return x + self.dropout(y if out_norm is None else out_norm(y))

    def _attend(self, x: Tensor, context: Context, index: int, memory: Tensor | None) -> Tensor:
        if context.attend is not None:  # attention of another kind may not take `instead`
            return self.attn(x, rotation=context.rotation(self.attn.rotary), instead=context.attend)
        cache = None if context.cache is None else context.cache.own[index]
        source = None if memory is None else torch.cat((memory, x), 1)
        mask, causal = self.look(x, context, index)
        return self.attn(
            x,
            source,
            mask=mask,
            causal=causal,
            rotation=context.rotation(self.attn.rotary),
            cache=cache,
            head_mask=None if context.head_mask is None else context.head_mask[index],
            probabilities=context.trace.attentions,
        )

    def _attend_encoded(self, x: Tensor, context: Context, index: int) -> Tensor:
        assert self.cross is not None
        assert context.encoded is not None, "attention over an encoder's output needs Context.encoded"
        return self.cross(
            x,
            context.encoded,
            mask=context.encoded_mask,
            cache=None if context.cache is None else context.cache.cross[index],
            head_mask=None if context.cross_head_mask is None else context.cross_head_mask[index],
            probabilities=context.trace.cross_attentions,
        )


class Stack(nn.Module):
    """Blocks one after another.

    Args:
        blocks: The blocks.
        norm: Applied after the last one.
        bias: The bias on attention scores that all blocks share.

    Attributes:
        checkpoint_activations: Of which blocks training computes the activations anew in the backward pass, instead of
            keeping them (Chen et al., 2016: https://arxiv.org/abs/1604.06174): 0 none; 1, or True, all; k every k-th.
    """

    def __init__(self, blocks: list[Block], norm: nn.Module | None = None, bias: RelativeBias | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.bias = norm, bias
        self.checkpoint_activations: int = 0

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """[batch, length, width] to the same; the last of the traced hidden states is the normed one."""
        context = Context() if context is None else context
        if self.bias is not None and context.bias is None:
            past = 0 if context.cache is None else context.cache.length
            context.bias = self.bias(x.size(1), past + x.size(1)).to(x.dtype)
        if context.is_plain:
            run = substitute(self)
            if run is not None and (
                context.cache is not None or (context.is_packable and not self._has_gaps_that_count(context))
            ):
                result: Tensor = run(x, context)
                return result
            run = trained(self)
            if run is not None and context.cache is None and not self._has_gaps_that_count(context):
                found: Tensor | None = run(x, context)
                if found is not None:
                    return found
        return self.run_blocks(x, context)

    def _has_gaps_that_count(self, context: Context) -> bool:
        """Whether tokens would come nearer to each other, and that changes how they see each other."""
        windows = [cast(Block, block).attn.window for block in self.blocks]
        return (context.bias is not None or any(window is not None for window in windows)) and context.has_gaps

    def run_blocks(self, x: Tensor, context: Context) -> Tensor:
        """What `forward` does where nothing runs in place of the blocks."""
        context.trace.keep(x)
        every = int(self.checkpoint_activations) if torch.is_grad_enabled() and context.cache is None else 0
        # What is made in the first block for all of them would be missing when that is computed again.
        if every and context.attend is None:
            for index, block in enumerate(self.blocks):
                cast(Block, block).look(x, context, index)
        for index, block in enumerate(self.blocks):
            anew = every and index % every == 0
            x = checkpoint(block, x, context, index, use_reentrant=False) if anew else block(x, context, index)
            context.trace.keep(x)
        if self.norm is not None:
            x = self.norm(x)
            if context.trace.hidden_states is not None:
                context.trace.hidden_states[-1] = x
        return x
