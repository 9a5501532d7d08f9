"""Decoders: every token sees itself and earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..blocks import Context, Stack
from ..errors import OptionError
from ..layers import Cache, TextEmbedding, Trace
from ..outputs import BackboneOutput
from .base import BackboneBase, check_covers, places, tokens_of
from .writing import CachedWriter, Piece, Writer

__all__ = ["Decoder"]


class Decoder(BackboneBase):
    """A decoder: one stack behind one embedding, in which every token sees itself and earlier ones.

    Attributes:
        embed: Tokens to vectors.
        stack: The blocks.
    """

    embed: TextEmbedding
    stack: Stack
    summary = "last"

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        length: Tensor | None = None,
        head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone.

        Args:
            token_ids: [batch, length] int64; with `past_key_values` only the new tokens.
            attention_mask: 1 = look, 0 = padding; [batch, length] of the new tokens, or of earlier ones too; or for
                these with up to four dimensions.
            position_ids: Place of each token in its text, [batch, length] int64; default: counted from the first token
                that is no padding.
            inputs_embeds: Token vectors [batch, length, width] in place of `token_ids`.
            length: Number of tokens of each row, [batch] int64, in place of `attention_mask`.
            head_mask: What the output of each head is multiplied with, [blocks, heads].
            past_key_values: Of the call before; it is added to.
            use_cache: Return `past_key_values` for the next call.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.

        Raises:
            ValueError: When not exactly one of `token_ids` and `inputs_embeds` is given, or the input is too long.
        """
        tokens = tokens_of(token_ids, inputs_embeds, "token_ids and inputs_embeds")
        cache = Cache(len(self.stack.blocks)) if use_cache and past_key_values is None else past_key_values
        past = 0 if cache is None else cache.length
        attention_mask = self.attention_mask(tokens, attention_mask, length)
        if cache is not None:
            attention_mask = cache.whole_mask(attention_mask, tokens.size(1))
        check_covers(attention_mask, past + tokens.size(1))
        if position_ids is None:
            self.check_length(past + tokens.size(1))
            position_ids = places(tokens, past, attention_mask)
        context = Context(
            mask=self.look(attention_mask),
            present=self.present(attention_mask),
            causal=True,
            positions=position_ids,
            cache=cache,
            head_mask=head_mask,
            trace=Trace(hidden_states=output_hidden_states, attentions=output_attentions),
        )
        x = self.stack(self.embed(tokens, position_ids), context)
        return BackboneOutput(last_hidden_state=x, past_key_values=cache, **context.trace.found())

    def writer(self, inputs: Mapping[str, Any]) -> Writer:
        return DecoderWriter(self, inputs)


class DecoderWriter(CachedWriter):
    """Goes on from the tokens it is given.

    Args:
        backbone: It reads and writes.
        inputs: Of its `forward`, by name, with `token_ids`; rows are padded on the left.

    Raises:
        OptionError: When a row is padded on the right.
    """

    def __init__(self, backbone: Decoder, inputs: Mapping[str, Any]) -> None:
        super().__init__(Cache(len(backbone.stack.blocks)))
        self._backbone, self._start = backbone, inputs["token_ids"]
        self._inputs = {name: value for name, value in inputs.items() if name not in ("token_ids", "length")}
        self._history: Tensor | None = None
        mask = backbone.attention_mask(self._start, inputs.get("attention_mask"), inputs.get("length"))
        if mask is not None and mask.ndim == 2:
            if bool(mask.all()):
                mask = None  # without a mask attention is faster
            else:
                if bool((mask.any(1) & ~mask[:, -1].bool()).any()):
                    raise OptionError(
                        "a row ends with padding, behind which nothing can come. Pad a decoder's rows on the left."
                    )
                self._history = self._start.masked_fill(~mask.bool(), -1)
            self._inputs["attention_mask"] = mask
        if backbone.max_tokens is not None:
            self.room = backbone.max_tokens - self._start.size(1)

    def pieces(self) -> Iterator[Piece]:
        yield Piece(self._start, history=self._history)

    def step(self, tokens: Tensor) -> Tensor:
        output = self._backbone(tokens, past_key_values=self._cache, use_cache=True, **self._inputs)
        # What else it was told, the cache remembers.
        self._inputs = {name: value for name, value in self._inputs.items() if name == "head_mask"}
        return output.last_hidden_state
