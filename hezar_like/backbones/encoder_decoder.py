"""Encoder and decoder: one stack reads, the other writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..blocks import Context, Stack
from ..layers import Cache, TextEmbedding, Trace
from ..layers.embeddings import ascending_positions
from ..outputs import BackboneOutput
from .base import BackboneBase, check_covers, places, tokens_of
from .writing import Piece, Writer

__all__ = ["EncoderDecoder"]

LASTING = {"encoder_outputs", "attention_mask", "decoder_head_mask", "cross_attn_head_mask"}
"""What the decoder has to be told in every step; the cache remembers the rest."""


class EncoderDecoder(BackboneBase):
    """Two stacks: the decoder sees itself, causally, and all of the encoder's output.

    Attributes:
        embed: Tokens to vectors, for both.
        encoder: The stack that reads.
        decoder: The stack that writes.
        decoder_start_token_id: The token every output starts from.
        pad_token_id: The token that stands in the decoder's input where labels do not count; None: the start token.
    """

    embed: TextEmbedding
    encoder: Stack
    decoder: Stack
    decoder_start_token_id: int = 0
    pad_token_id: int | None = None
    shifts_labels = False

    def encode(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the encoder; see `forward`."""
        tokens = tokens_of(token_ids, inputs_embeds, "token_ids and inputs_embeds")
        self.check_length(tokens.size(1))
        trace = Trace(hidden_states=output_hidden_states, attentions=output_attentions)
        positions = ascending_positions(tokens)
        context = Context(mask=self.look(attention_mask), positions=positions, head_mask=head_mask, trace=trace)
        x = self.encoder(self.embed(tokens, positions), context)
        return BackboneOutput(last_hidden_state=x, **trace.found())

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        encoder_outputs: BackboneOutput | Tensor | tuple[Tensor, ...] | None = None,
        cross_attention_mask: Tensor | None = None,
        length: Tensor | None = None,
        decoder_length: Tensor | None = None,
        head_mask: Tensor | None = None,
        decoder_head_mask: Tensor | None = None,
        cross_attn_head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs encoder and decoder; without anything for the decoder, the encoder alone.

        Args:
            token_ids: What is read, [batch, length] int64.
            attention_mask: Of what is read: 1 = look, 0 = padding; [batch, length], or up to four dimensions.
            decoder_input_ids: What was written so far, [batch, written] int64; with `past_key_values` only what is new.
            decoder_attention_mask: Of what was written, with or without what earlier calls did.
            inputs_embeds: Token vectors [batch, length, width] in place of `token_ids`.
            decoder_inputs_embeds: Token vectors in place of `decoder_input_ids`.
            encoder_outputs: Of `encode`, or its hidden states; then nothing is read.
            cross_attention_mask: What each token that is written sees of what is read, [batch, 1, written, length];
                default: all but the padding of `attention_mask`.
            length: Number of tokens of each row that is read, [batch] int64, in place of `attention_mask`.
            decoder_length: The same of what was written, in place of `decoder_attention_mask`.
            head_mask: What the output of each of the encoder's heads is multiplied with, [blocks, heads].
            decoder_head_mask: The same for the decoder's attention over itself.
            cross_attn_head_mask: The same for its attention over the encoder's output.
            past_key_values: Of the call before; it is added to.
            use_cache: Return `past_key_values` for the next call.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.

        Raises:
            ValueError: When inputs are missing, given twice, or too long.
        """
        if encoder_outputs is None:
            read = tokens_of(token_ids, inputs_embeds, "token_ids, inputs_embeds and encoder_outputs")
            attention_mask = self.attention_mask(read, attention_mask, length)
            encoder_outputs = self.encode(
                token_ids,
                attention_mask,
                inputs_embeds,
                head_mask=head_mask,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )
        if isinstance(encoder_outputs, Mapping):
            encoded = BackboneOutput(**encoder_outputs)
        else:
            encoded = BackboneOutput(encoder_outputs if isinstance(encoder_outputs, Tensor) else encoder_outputs[0])
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            encoded.encoder_last_hidden_state = encoded.last_hidden_state
            return encoded
        if encoder_outputs is not None and attention_mask is None:
            attention_mask = self.attention_mask(encoded.last_hidden_state, length=length)
        written = tokens_of(decoder_input_ids, decoder_inputs_embeds, "decoder_input_ids and decoder_inputs_embeds")
        cache = Cache(len(self.decoder.blocks)) if use_cache and past_key_values is None else past_key_values
        past = 0 if cache is None else cache.length
        decoder_mask = self.attention_mask(written, decoder_attention_mask, decoder_length)
        if cache is not None:
            decoder_mask = cache.whole_mask(decoder_mask, written.size(1))
        check_covers(decoder_mask, past + written.size(1))
        self.check_length(past + written.size(1))
        positions = places(written, past, decoder_mask)
        queries = torch.ones_like(written[:, :, 0] if written.ndim == 3 else written)
        if decoder_mask is not None and decoder_mask.ndim == 2:
            queries = decoder_mask[:, past:]
        crossing = attention_mask if cross_attention_mask is None else cross_attention_mask
        context = Context(
            mask=self.look(decoder_mask, queries),
            causal=True,
            positions=positions,
            cache=cache,
            encoded=encoded.last_hidden_state,
            encoded_mask=self.look(crossing, queries),
            head_mask=decoder_head_mask,
            cross_head_mask=cross_attn_head_mask,
            trace=Trace(hidden_states=output_hidden_states, attentions=output_attentions),
        )
        x = self.decoder(self.embed(written, positions), context)
        return BackboneOutput(
            last_hidden_state=x,
            past_key_values=cache,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            **context.trace.found(),
        )

    def shifted(self, labels: Tensor) -> Tensor:
        """What the decoder has written before each label: the start token, then the labels without the last one.

        Args:
            labels: [batch, length] int64; -100 counts as padding.
        """
        start = self.decoder_start_token_id
        shifted = torch.full_like(labels, start)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == -100, start if self.pad_token_id is None else self.pad_token_id)

    def writer(self, inputs: Mapping[str, Any]) -> Writer:
        return EncoderDecoderWriter(self, inputs)


class EncoderDecoderWriter(Writer):
    """Reads with the encoder, and writes with the decoder.

    Args:
        backbone: It reads and writes.
        inputs: Of its `forward`, by name; it goes on from `decoder_input_ids` where they are given.
    """

    def __init__(self, backbone: EncoderDecoder, inputs: Mapping[str, Any]) -> None:
        read = dict(inputs)
        if "encoder_outputs" not in read:
            given = {name: read.pop(name) for name in ("token_ids", "inputs_embeds", "head_mask") if name in read}
            tokens = tokens_of(given.get("token_ids"), given.get("inputs_embeds"), "token_ids and inputs_embeds")
            mask = backbone.attention_mask(tokens, read.pop("attention_mask", None), read.pop("length", None))
            read |= {"encoder_outputs": backbone.encode(attention_mask=mask, **given), "attention_mask": mask}
        states = read["encoder_outputs"].last_hidden_state
        start = torch.full((len(states), 1), backbone.decoder_start_token_id, device=states.device)
        self._backbone, self._start = backbone, read.pop("decoder_input_ids", start)
        self._inputs, self._cache = read, Cache(len(backbone.decoder.blocks))
        if backbone.max_tokens is not None:
            self.room = backbone.max_tokens - self._start.size(1)

    def pieces(self) -> Iterator[Piece]:
        yield Piece(self._start)

    def step(self, tokens: Tensor) -> Tensor:
        output = self._backbone(decoder_input_ids=tokens, past_key_values=self._cache, use_cache=True, **self._inputs)
        self._inputs = {name: value for name, value in self._inputs.items() if name in LASTING}
        return output.last_hidden_state

    def select(self, rows: Tensor) -> None:
        self._cache.select(rows)
        encoded, mask = self._inputs["encoder_outputs"], self._inputs.get("attention_mask")
        chosen = BackboneOutput(last_hidden_state=encoded.last_hidden_state[rows])
        self._inputs |= {"encoder_outputs": chosen, "attention_mask": None if mask is None else mask[rows]}
