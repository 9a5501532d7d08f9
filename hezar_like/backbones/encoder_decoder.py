"""Encoder and decoder: one stack reads, the other writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..blocks import Context, Stack
from ..layers import Cache, TextEmbedding, Trace, attention_mask_to_look
from ..outputs import BackboneOutput
from .base import BackboneBase, check_covers, places, tokens_of
from .writing import CachedWriter, Piece, Writer

__all__ = ["EncoderDecoder", "as_output"]

LASTING = {"encoder_outputs", "attention_mask", "decoder_head_mask", "cross_attn_head_mask"}
"""What the decoder has to be told in every step; the cache remembers the rest."""
WITH_PADDING = {"decoder_attention_mask", "decoder_length"}
"""What says that of the tokens written first some are padding."""


class EncoderDecoder(BackboneBase):
    """Two stacks: the decoder sees itself, causally, and all of the encoder's output.

    What is read, and how, is a subclass's: it has an `encode`, and a `forward` that calls it and then `decode`. The
    names of what `encode` takes are in `reads`.

    Attributes:
        embed: Tokens to vectors, of the decoder.
        encoder: The stack that reads.
        decoder: The stack that writes.
        decoder_start_token_id: The token every output starts from.
        pad_token_id: The token that stands in the decoder's input where labels do not count; None: the start token.
        max_written: The most tokens that are written, those it starts from included; None for no limit.
        reads: What `encode` takes, by name.
    """

    embed: TextEmbedding
    encoder: Stack
    decoder: Stack
    decoder_start_token_id: int = 0
    pad_token_id: int | None = None
    max_written: int | None = None
    reads: ClassVar[frozenset[str]] = frozenset()
    shifts_labels = False
    writes_apart = True

    def encode(self, *args: Any, **kwargs: Any) -> BackboneOutput:
        """Runs the encoder; see the subclass."""
        raise NotImplementedError(f"{type(self).__name__} must override encode.")

    def read(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of `forward` with what is read replaced by what the encoder makes of it.

        Args:
            inputs: Of `forward`, by name.
        """
        given = {name: inputs[name] for name in self.reads if name in inputs}
        rest = {name: value for name, value in inputs.items() if name not in self.reads}
        return rest if "encoder_outputs" in rest else rest | {"encoder_outputs": self.encode(**given)}

    def decode(
        self,
        encoder_outputs: BackboneOutput | Mapping[str, Any] | Tensor | tuple[Tensor, ...],
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        decoder_inputs_embeds: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
        decoder_length: Tensor | None = None,
        cross_attention_mask: Tensor | None = None,
        decoder_head_mask: Tensor | None = None,
        cross_attn_head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the decoder; without anything for it, returns what the encoder made.

        Args:
            encoder_outputs: Of `encode`, or its hidden states [batch, read, width], alone or first in a tuple.
            decoder_input_ids: What was written so far, [batch, written] int64; with `past_key_values` only what is new.
                With several rows for each of the encoder's, next to each other, these look at the same.
            decoder_attention_mask: Of what was written: 1 = look, 0 = padding; with or without what earlier calls did.
            decoder_inputs_embeds: Token vectors [batch, written, width] in place of `decoder_input_ids`.
            decoder_position_ids: Place of each of these tokens, [batch or 1, written] int64; default: counted from the
                first that is no padding.
            decoder_length: Number of tokens of each row that was written, in place of `decoder_attention_mask`.
            cross_attention_mask: What is seen of what is read: 1 = look, [batch, read], or [batch, 1, written, read]
                for each token by itself.
            decoder_head_mask: What the output of each head of the attention over what was written is multiplied with,
                [blocks, heads].
            cross_attn_head_mask: The same for the attention over the encoder's output.
            past_key_values: Of the call before; it is added to.
            use_cache: Return `past_key_values` for the next call.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block, those over the encoder's output
                as `cross_attentions`.

        Raises:
            ValueError: When inputs are missing, given twice, or too long.
        """
        encoded = as_output(encoder_outputs)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            encoded.encoder_last_hidden_state = encoded.last_hidden_state
            return encoded
        written = tokens_of(decoder_input_ids, decoder_inputs_embeds, "decoder_input_ids and decoder_inputs_embeds")
        cache = Cache(len(self.decoder.blocks)) if use_cache and past_key_values is None else past_key_values
        past = 0 if cache is None else cache.length
        decoder_mask = self.attention_mask(written, decoder_attention_mask, decoder_length)
        if cache is not None:
            decoder_mask = cache.whole_mask(decoder_mask, written.size(1))
        check_covers(decoder_mask, past + written.size(1))
        self._check_written(past + written.size(1))
        positions = places(written, past, decoder_mask) if decoder_position_ids is None else decoder_position_ids
        # Without a mask none of those who look is padding, so that nobody is made blind.
        queries = decoder_mask[:, past:] if decoder_mask is not None and decoder_mask.ndim == 2 else None
        look = attention_mask_to_look if queries is None else lambda mask: self.look(mask, queries)
        context = Context(
            mask=look(decoder_mask),
            causal=True,
            positions=positions,
            cache=cache,
            encoded=encoded.last_hidden_state,
            encoded_mask=look(cross_attention_mask),
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

    def _check_written(self, length: int) -> None:
        if self.max_written is not None and length > self.max_written:
            raise ValueError(
                f"{length} tokens are written, those at the start included, but this model has positions for "
                f"{self.max_written}. Write fewer."
            )


class EncoderDecoderWriter(CachedWriter):
    """Reads with the encoder, and writes with the decoder.

    Several rows that write for one input share what was read of it, wherever each input has as many of them.

    Args:
        backbone: It reads and writes.
        inputs: Of its `forward`, by name; it goes on from `decoder_input_ids` where they are given.
    """

    def __init__(self, backbone: EncoderDecoder, inputs: Mapping[str, Any]) -> None:
        super().__init__(Cache(len(backbone.decoder.blocks)))
        read = backbone.read(inputs)
        encoded = as_output(read["encoder_outputs"])
        states = encoded.last_hidden_state
        start = torch.full((len(states), 1), backbone.decoder_start_token_id, device=states.device)
        self._backbone, self._start = backbone, read.pop("decoder_input_ids", start)
        self._inputs = read | {"encoder_outputs": encoded}
        # A mask of what is read is then also one of the rows that look, which may differ where some of it is padding.
        self._shares = "attention_mask" not in read or not read.keys() & WITH_PADDING
        # The inputs that the encoder's rows are of, and those that the decoder's rows write for.
        self._read = self._written = torch.arange(len(states), device=states.device)
        if backbone.max_written is not None:
            self.room = backbone.max_written - self._start.size(1)

    def pieces(self) -> Iterator[Piece]:
        mask, history = self._inputs.get("decoder_attention_mask"), None
        if mask is not None:
            history = self._start.masked_fill(mask == 0, -1)
        yield Piece(self._start, history=history)

    def step(self, tokens: Tensor) -> Tensor:
        output = self._backbone(decoder_input_ids=tokens, past_key_values=self._cache, use_cache=True, **self._inputs)
        self._inputs = {name: value for name, value in self._inputs.items() if name in LASTING}
        return output.last_hidden_state

    def select(self, rows: Tensor) -> None:
        self._cache.select_written(rows)
        self._write_for(self._written[rows])

    def expand(self, times: int) -> None:
        super().expand(times)
        self._write_for(self._written.repeat_interleave(times))

    def _write_for(self, inputs: Tensor) -> None:
        """Goes on with rows for these inputs, [rows] int64; of what was read only what changes is copied."""
        self._written = inputs
        changes = torch.ones_like(inputs, dtype=torch.bool)
        changes[1:] = inputs[1:] != inputs[:-1]
        once = inputs[changes]
        shared = self._shares and torch.equal(once.repeat_interleave(len(inputs) // max(1, len(once))), inputs)
        read = once if shared else inputs
        if torch.equal(read, self._read):
            return
        chosen = (self._read == read[:, None]).long().argmax(1)  # the first of the encoder's rows of each
        self._read = read
        self._cache.select_read(chosen)
        encoded, mask = self._inputs["encoder_outputs"], self._inputs.get("attention_mask")
        self._inputs["encoder_outputs"] = BackboneOutput(last_hidden_state=encoded.last_hidden_state[chosen])
        if mask is not None:
            self._inputs["attention_mask"] = mask[chosen]


def as_output(encoder_outputs: Any) -> BackboneOutput:
    """What an encoder made, however it is given: its output, a mapping of it, its hidden states, or a tuple of them."""
    if isinstance(encoder_outputs, Mapping):
        return BackboneOutput(**encoder_outputs)
    return BackboneOutput(encoder_outputs if isinstance(encoder_outputs, Tensor) else encoder_outputs[0])
