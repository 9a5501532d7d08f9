"""Blocks are made of layers, stacks of blocks, backbones of stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from .layers import MLP, Attention, TextEmbedding, Trace, attention_mask_to_look
from .layers.embeddings import ascending_positions
from .outputs import BackboneOutput

__all__ = ["Backbone", "Block", "Order", "Stack"]

Order = Literal["pre", "post"]


class Block(nn.Module):
    """Attention and MLP, each with a residual connection and a norm.

    Args:
        attn: The attention.
        mlp: The feed-forward layer.
        norm: Makes a norm; called once for each.
        order: Whether norms come before a layer (`pre`) or after its residual sum (`post`).
        dropout: Dropout probability on what each layer adds.
    """

    def __init__(
        self, attn: Attention, mlp: MLP, norm: Callable[[], nn.Module], *, order: Order = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attn, self.attn_norm = attn, norm()
        self.mlp, self.mlp_norm = mlp, norm()
        self.order = order
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """[batch, length, width] to the same; see `Attention` for the mask."""
        x = self._residual(x, self.attn_norm, lambda h: self.attn(h, mask=mask, trace=trace))
        return self._residual(x, self.mlp_norm, self.mlp)

    def _residual(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.order == "post":
            result: Tensor = norm(x + self.dropout(layer(x)))
            return result
        return x + self.dropout(layer(norm(x)))


class Stack(nn.Module):
    """Blocks one after another.

    Args:
        blocks: The blocks.
        norm: Applied after the last one.
    """

    def __init__(self, blocks: list[Block], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, x: Tensor, *, mask: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """[batch, length, width] to the same; see `Attention` for the mask."""
        if trace is not None and trace.hidden_states is not None:
            trace.hidden_states.append(x)
        for block in self.blocks:
            x = block(x, mask=mask, trace=trace)
            if trace is not None and trace.hidden_states is not None:
                trace.hidden_states.append(x)
        return x if self.norm is None else self.norm(x)


class Backbone(nn.Module):
    """One stack behind one embedding. A family's subclass builds both and says what differs.

    Attributes:
        embed: Tokens to vectors.
        stack: The blocks.
        max_tokens: The most tokens one input may have; None for no limit.
    """

    embed: TextEmbedding
    stack: Stack
    max_tokens: int | None = None

    def positions(self, tokens: Tensor) -> Tensor:
        """Indices into the learned positions for tokens [batch, length] or vectors [batch, length, width]."""
        return ascending_positions(tokens)

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone.

        Args:
            token_ids: [batch, length] int64.
            attention_mask: 1 = look, 0 = padding; [batch, length], or up to four dimensions.
            token_type_ids: Segment of each token, [batch, length] int64.
            position_ids: Indices into the learned positions, [batch, length] int64; default: the family's rule.
            inputs_embeds: Token vectors [batch, length, width] in place of `token_ids`.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.

        Raises:
            ValueError: When not exactly one of `token_ids` and `inputs_embeds` is given.
        """
        tokens = token_ids if inputs_embeds is None else inputs_embeds
        if tokens is None or (token_ids is not None and inputs_embeds is not None):
            raise ValueError("give exactly one of token_ids and inputs_embeds.")
        if self.max_tokens is not None and position_ids is None and tokens.size(1) > self.max_tokens:
            raise ValueError(
                f"the input has {tokens.size(1)} tokens, but this model has positions for {self.max_tokens}. "
                "Truncate it, or predict with long_text='truncate'."
            )
        trace = Trace(hidden_states=output_hidden_states, attentions=output_attentions)
        x = self.embed(tokens, self.positions(tokens) if position_ids is None else position_ids, token_type_ids)
        x = self.stack(x, mask=attention_mask_to_look(attention_mask), trace=trace)
        return BackboneOutput(
            last_hidden_state=x,
            hidden_states=None if trace.hidden_states is None else tuple(trace.hidden_states),
            attentions=None if trace.attentions is None else tuple(trace.attentions),
        )
