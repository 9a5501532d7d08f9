"""Encoders: every token sees every other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..blocks import Context, Stack
from ..layers import TextEmbedding, Trace
from ..layers.embeddings import ascending_positions
from ..outputs import BackboneOutput
from .base import BackboneBase, tokens_of
from .writing import Piece, Writer

__all__ = ["Backbone"]


class Backbone(BackboneBase):
    """An encoder: one stack behind one embedding, in which every token sees every other.

    A family's subclass builds both and says what differs.

    Attributes:
        embed: Tokens to vectors.
        stack: The blocks.
    """

    embed: TextEmbedding
    stack: Stack

    def positions(self, tokens: Tensor) -> Tensor:
        """Indices into the learned positions for tokens [batch, length] or vectors [batch, length, width]."""
        return ascending_positions(tokens)

    def pooled(self, states: Tensor) -> Tensor | None:
        """The pooler's output for [batch, length, width]: [batch, width]; None where the backbone has no pooler."""
        return None

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        length: Tensor | None = None,
        head_mask: Tensor | None = None,
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
            length: Number of tokens of each row, [batch] int64, in place of `attention_mask`.
            head_mask: What the output of each head is multiplied with, [blocks, heads].
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.

        Raises:
            ValueError: When not exactly one of `token_ids` and `inputs_embeds` is given, or the input is too long.
        """
        tokens = tokens_of(token_ids, inputs_embeds, "token_ids and inputs_embeds")
        if position_ids is None:
            self.check_length(tokens.size(1))
            position_ids = self.positions(tokens)
        attention_mask = self.attention_mask(tokens, attention_mask, length)
        context = Context(
            mask=self.look(attention_mask),
            present=self.present(attention_mask),
            positions=position_ids,
            head_mask=head_mask,
            trace=Trace(hidden_states=output_hidden_states, attentions=output_attentions),
        )
        x = self.stack(self.embed(tokens, position_ids, token_type_ids), context)
        return BackboneOutput(last_hidden_state=x, pooler_output=self.pooled(x), **context.trace.found())

    def reading_and_writing(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of `forward` with which tokens see what UniLM lets them see.

        Tokens of segment 0 are read: they see each other. Tokens of segment 1 are written: they see what is read, and
        what was written up to them (Dong et al., 2019: https://arxiv.org/abs/1905.03197).

        Args:
            inputs: Of `forward`, by name. An attention mask with more than two dimensions says all, and stays.
        """
        tokens = tokens_of(inputs.get("token_ids"), inputs.get("inputs_embeds"), "token_ids and inputs_embeds")
        mask = self.attention_mask(tokens, inputs.get("attention_mask"), inputs.get("length"))
        result = {name: value for name, value in inputs.items() if name != "length"}
        types = result.get("token_type_ids")
        if self.token_types < 2:
            result.pop("token_type_ids", None)  # they have no vectors here, and only say who sees whom
        if types is not None and (mask is None or mask.ndim == 2):
            written = types.bool()
            earlier = torch.ones(types.size(1), types.size(1), dtype=torch.bool, device=types.device).tril()
            look = torch.where(written[:, :, None], earlier, ~written[:, None, :])
            mask = look if mask is None else look & mask.bool()[:, None, :]
        return result | {"attention_mask": mask}

    def writer(self, inputs: Mapping[str, Any]) -> Writer:
        return EncoderWriter(self, inputs)


class EncoderWriter(Writer):
    """Writes behind what an encoder reads, as in UniLM; all of it is computed anew for each token.

    Args:
        backbone: The encoder.
        inputs: Of its `forward`, by name, with `token_ids`; rows are padded on the right.

    Raises:
        ValueError: For inputs that say nothing of the tokens that are still to be written.
    """

    def __init__(self, backbone: Backbone, inputs: Mapping[str, Any]) -> None:
        if wrong := inputs.keys() - {"token_ids", "attention_mask", "length", "token_type_ids", "head_mask"}:
            raise ValueError(f"{min(wrong)} cannot be given here: it says nothing of the tokens that will be written.")
        self._backbone, self._tokens = backbone, inputs["token_ids"]
        mask = backbone.attention_mask(self._tokens, inputs.get("attention_mask"), inputs.get("length"))
        types = inputs.get("token_type_ids")
        self._mask = torch.ones_like(self._tokens) if mask is None else mask.long()
        self._types = torch.zeros_like(self._tokens) if types is None else types
        self._head_mask = inputs.get("head_mask")
        if backbone.max_tokens is not None:
            self.room = backbone.max_tokens - self._tokens.size(1)

    def pieces(self) -> Iterator[Piece]:
        yield Piece(self._tokens[:, :0])  # its first token follows the last one that is read

    def step(self, tokens: Tensor) -> Tensor:
        rows = torch.arange(len(self._tokens), device=self._tokens.device)
        for new in tokens.T:
            self._tokens, self._mask, self._types = (
                torch.cat((kept, kept.new_zeros(len(kept), 1)), 1) for kept in (self._tokens, self._mask, self._types)
            )
            ends = self._mask.sum(1)
            self._tokens[rows, ends], self._mask[rows, ends], self._types[rows, ends] = new, 1, 1
        inputs = {"token_ids": self._tokens, "attention_mask": self._mask, "token_type_ids": self._types}
        seen = self._backbone.reading_and_writing(inputs)
        states = self._backbone(**seen, head_mask=self._head_mask).last_hidden_state
        last = self._mask.sum(1) - 1
        return states[rows, last][:, None]

    def select(self, rows: Tensor) -> None:
        self._tokens, self._mask, self._types = (
            kept.index_select(0, rows) for kept in (self._tokens, self._mask, self._types)
        )

    def expand(self, times: int) -> None:
        self.select(torch.arange(len(self._tokens), device=self._tokens.device).repeat_interleave(times))

    def forget(self, count: int) -> None:
        for _ in range(count):
            last = self._mask.sum(1, keepdim=True) - 1
            self._tokens, self._mask, self._types = (
                kept.scatter(1, last, 0)[:, :-1] for kept in (self._tokens, self._mask, self._types)
            )
