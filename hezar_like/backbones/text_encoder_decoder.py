"""Encoder and decoder of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..blocks import Context
from ..layers import Cache, Trace
from ..layers.embeddings import ascending_positions
from ..outputs import BackboneOutput
from .base import tokens_of
from .encoder_decoder import EncoderDecoder, as_output

__all__ = ["TextEncoderDecoder"]


class TextEncoderDecoder(EncoderDecoder):
    """An encoder and a decoder of texts, with one embedding for both.

    Attributes:
        embed: Tokens to vectors, for both.
    """

    reads = frozenset({"token_ids", "inputs_embeds", "head_mask"})

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
        context = Context(
            mask=self.look(attention_mask),
            present=self.present(attention_mask),
            positions=positions,
            head_mask=head_mask,
            trace=trace,
        )
        x = self.encoder(self.embed(tokens, positions), context)
        return BackboneOutput(last_hidden_state=x, **trace.found())

    def read(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See `EncoderDecoder.read`; the padding is told to the decoder too."""
        if "encoder_outputs" in inputs:
            return dict(inputs)
        inputs = dict(inputs)
        tokens = tokens_of(inputs.get("token_ids"), inputs.get("inputs_embeds"), "token_ids and inputs_embeds")
        mask = self.attention_mask(tokens, inputs.pop("attention_mask", None), inputs.pop("length", None))
        given = {name: inputs.pop(name) for name in self.reads & inputs.keys()}
        return inputs | {"encoder_outputs": self.encode(attention_mask=mask, **given), "attention_mask": mask}

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
        """Runs encoder and decoder; without anything for the decoder, the encoder alone. For the rest see `decode`.

        Args:
            token_ids: What is read, [batch, length] int64.
            attention_mask: Of what is read: 1 = look, 0 = padding; [batch, length], or up to four dimensions.
            decoder_input_ids: What was written so far.
            decoder_attention_mask: Of what was written.
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
            past_key_values: Of the call before.
            use_cache: Return `past_key_values`.
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
        elif attention_mask is None:
            attention_mask = self.attention_mask(as_output(encoder_outputs).last_hidden_state, length=length)
        return self.decode(
            encoder_outputs,
            decoder_input_ids,
            decoder_attention_mask,
            decoder_inputs_embeds=decoder_inputs_embeds,
            decoder_length=decoder_length,
            cross_attention_mask=attention_mask if cross_attention_mask is None else cross_attention_mask,
            decoder_head_mask=decoder_head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
