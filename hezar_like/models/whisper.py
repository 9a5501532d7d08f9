"""Whisper (Radford et al., 2022): https://arxiv.org/abs/2212.04356."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones import EncoderDecoder
from ..blocks import Block, Context, Stack
from ..configs import ModelConfig
from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Between, Deviation, Layers, OneOf, Probability, Size, TokenId, Vocabulary
from ..keymap import Table
from ..layers import ACTIVATIONS, MLP, Attention, Cache, LanguageModelHead, TextEmbedding, Trace
from ..layers import initialize as initialize_layers
from ..outputs import BackboneOutput

LONGEST_PERIOD = 10_000
"""Of the waves that positions are told by, divided by 2 pi."""


@dataclass(kw_only=True)
class WhisperConfig(ModelConfig):
    """A Whisper encoder with its decoder; defaults are those of the English tiny one, but for its vocabulary."""

    name = "whisper"
    vocab_size: Vocabulary = 51865
    """Number of tokens."""
    num_mel_bins: Size = 80
    """Numbers in each frame of audio features."""
    d_model: Annotated[int, Between(4, 2**20)] = 384
    """Size of the hidden states; even, and a multiple of the numbers of heads."""
    encoder_layers: Layers = 4
    """Number of the encoder's blocks."""
    encoder_attention_heads: Size = 6
    """Number of the encoder's attention heads."""
    encoder_ffn_dim: Size = 1536
    """Size between the two layers of each of the encoder's MLPs."""
    decoder_layers: Layers = 4
    """Number of the decoder's blocks."""
    decoder_attention_heads: Size = 6
    """Number of the decoder's attention heads."""
    decoder_ffn_dim: Size = 1536
    """Size between the two layers of each of the decoder's MLPs."""
    activation_function: Annotated[str, OneOf(ACTIVATIONS)] = "gelu"
    """Activation of the MLPs."""
    max_source_positions: Size = 1500
    """Number of the encoder's positions: half as many as frames of audio features are read."""
    max_target_positions: Size = 448
    """Number of the decoder's positions: the most tokens that are written, those it starts from included."""
    dropout: Probability = 0.0
    """Dropout on embeddings and on what each layer adds, while training."""
    attention_dropout: Probability = 0.0
    """Dropout on attention probabilities, while training."""
    activation_dropout: Probability = 0.0
    """Dropout inside the MLPs, while training."""
    init_std: Deviation = 0.02
    """Standard deviation of random weights."""
    tie_word_embeddings: bool = True
    """Whether tokens are scored with the embedding."""
    pad_token_id: TokenId | None = 50256
    """The padding token."""
    bos_token_id: TokenId | None = 50256
    """The token transformers calls the first; it is not written."""
    eos_token_id: TokenId | list[TokenId] | None = 50256
    """The token that ends every text, or several."""
    decoder_start_token_id: TokenId = 50257
    """The token every output starts from."""

    def check(self) -> None:
        super().check()
        owner = type(self).__name__
        for name in ("pad_token_id", "decoder_start_token_id"):
            Between(0, self.vocab_size - 1).check(self[name] or 0, f"{owner}.{name}")
        divisors = {name: self[name] for name in ("encoder_attention_heads", "decoder_attention_heads")}
        for name, number in {"2": 2, **divisors}.items():
            if self.d_model % number:
                by = name if name == "2" else f"{name}={number}"
                raise ConfigError(f"{owner}: d_model={self.d_model} is not divisible by {by}. Change one of them.")


class AudioEmbedding(nn.Module):
    """Frames of audio features to vectors: two convolutions, of which the second makes one of two, and positions.

    Args:
        bins: Numbers in each frame.
        width: Size of the vectors.
        positions: Number of vectors.
        dropout: Dropout probability on the sum.
    """

    def __init__(self, bins: int, width: int, positions: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.positions = nn.Embedding(positions, width)
        self.positions.weight.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)

    def fill(self, std: float) -> None:
        """Random convolutions, and waves for positions."""
        for convolution in (self.conv1, self.conv2):
            nn.init.normal_(convolution.weight, std=std)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        with torch.no_grad():
            self.positions.weight.copy_(waves(*self.positions.weight.shape))

    def forward(self, features: Tensor) -> Tensor:
        """[batch, bins, 2 * positions] to [batch, positions, width].

        Raises:
            ValueError: For features of another shape.
        """
        wanted = self.conv1.in_channels, 2 * self.positions.num_embeddings
        if features.ndim != 3 or features.shape[1:] != wanted:
            raise ValueError(
                f"input_features have the shape {list(features.shape)}, but this model reads "
                f"[batch, {wanted[0]}, {wanted[1]}]. Make them with the model's feature extractor."
            )
        x = F.gelu(self.conv2(F.gelu(self.conv1(features.to(self.conv1.weight.dtype)))))
        result: Tensor = self.dropout((x.mT + self.positions.weight).contiguous())  # all that follows keeps the layout
        return result


def waves(length: int, width: int) -> Tensor:
    """Sines of different periods in the first half of the channels, cosines in the second: [length, width]."""
    rates = torch.exp(-math.log(LONGEST_PERIOD) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), 1)


def initialize(model: nn.Module, config: WhisperConfig) -> None:
    """Random weights as Whisper has them in transformers."""
    initialize_layers(model, config.init_std)
    for part in model.modules():
        if isinstance(part, AudioEmbedding):
            part.fill(config.init_std)


def keys() -> Table:
    """The names of transformers."""
    table = {
        "encoder.conv1": "backbone.audio.conv1",
        "encoder.conv2": "backbone.audio.conv2",
        "encoder.embed_positions": "backbone.audio.positions",
        "decoder.embed_tokens": "backbone.embed.tokens",
        "decoder.embed_positions": "backbone.embed.positions",
    }
    attentions = {"encoder": {"self_attn": "attn"}, "decoder": {"self_attn": "attn", "encoder_attn": "cross"}}
    for side, kinds in attentions.items():
        block, own = f"{side}.layers.{{}}.", f"backbone.{side}.blocks.{{}}."
        for foreign, native in kinds.items():
            table |= {f"{block}{foreign}.{part}_proj": f"{own}{native}.{part}" for part in ("q", "k", "v", "out")}
            table[f"{block}{foreign}_layer_norm"] = f"{own}{native}_norm"
        table |= {
            f"{block}fc1": f"{own}mlp.up",
            f"{block}fc2": f"{own}mlp.down",
            f"{block}final_layer_norm": f"{own}mlp_norm",
            f"{side}.layer_norm": f"backbone.{side}.norm",
        }
    return table


IRRELEVANT = (
    "num_hidden_layers", "sampling_rate", "max_source_length", "median_filter_width", "forced_decoder_ids",
    "use_weighted_layer_sum", "classifier_proj_size", "apply_spec_augment", "mask_time_prob", "mask_time_length",
    "mask_time_min_masks", "mask_feature_prob", "mask_feature_length", "mask_feature_min_masks", "encoder_layerdrop",
    "decoder_layerdrop",
)  # fmt: skip
"""Settings that others say, of another head, of generation, and of how training disturbs what it reads."""


@register_family(
    "whisper",
    WhisperConfig,
    "Whisper (Radford et al., 2022)",
    titles=("Whisper",),
    prefix="model.",
    keys=keys(),
    irrelevant=IRRELEVANT,
    fixed={"scale_embedding": False},
    write_generation=lambda c: {"max_length": c.max_target_positions},  # else transformers stops after 20 tokens
    initialize=initialize,
    heads={
        "speech_recognition": Head(
            lambda c: LanguageModelHead(c.d_model, c.vocab_size),
            {"proj_out": "head.out"},
            tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
            endings=("ForConditionalGeneration", "Model"),  # the backbone alone lacks nothing: the head is tied
        ),
    },
)
class Whisper(EncoderDecoder):
    """Pre-norm encoder of audio features, and decoder with learned positions; no keys have biases.

    Attributes:
        audio: Audio features to vectors.
    """

    reads = frozenset({"input_features", "head_mask"})

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.decoder_start_token_id, self.pad_token_id = config.decoder_start_token_id, config.pad_token_id
        self.max_written = config.max_target_positions
        norm = partial(nn.LayerNorm, config.d_model)
        self.audio = AudioEmbedding(config.num_mel_bins, config.d_model, config.max_source_positions, config.dropout)
        self.embed = TextEmbedding(
            config.vocab_size,
            config.d_model,
            positions=config.max_target_positions,
            dropout=config.dropout,
            padding=config.pad_token_id,
        )

        def stack(layers: int, heads: int, hidden: int, *, decodes: bool) -> Stack:
            attention = partial(Attention, config.d_model, heads, bias=("q", "v"), dropout=config.attention_dropout)
            mlp = partial(MLP, config.d_model, hidden, config.activation_function, dropout=config.activation_dropout)
            blocks = [
                Block(attention(), mlp(), norm, cross=attention() if decodes else None, dropout=config.dropout)
                for _ in range(layers)
            ]
            return Stack(blocks, norm())

        c = config
        self.encoder = stack(c.encoder_layers, c.encoder_attention_heads, c.encoder_ffn_dim, decodes=False)
        self.decoder = stack(c.decoder_layers, c.decoder_attention_heads, c.decoder_ffn_dim, decodes=True)

    def encode(
        self,
        input_features: Tensor,
        *,
        head_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the encoder; see `forward`."""
        trace = Trace(hidden_states=output_hidden_states, attentions=output_attentions)
        x = self.encoder(self.audio(input_features), Context(head_mask=head_mask, trace=trace))
        return BackboneOutput(last_hidden_state=x, **trace.found())

    def forward(
        self,
        input_features: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        decoder_inputs_embeds: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
        encoder_outputs: BackboneOutput | Tensor | tuple[Tensor, ...] | None = None,
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
            input_features: Log-mel spectrograms, [batch, num_mel_bins, 2 * max_source_positions] float.
            decoder_input_ids: What was written so far, [batch, written] int64; this and what follows see `decode`.
            decoder_attention_mask: Of what was written: 1 = look, 0 = padding.
            decoder_inputs_embeds: Token vectors in place of `decoder_input_ids`.
            decoder_position_ids: Place of each token, [batch or 1, written] int64.
            encoder_outputs: Of `encode`, or its hidden states; then nothing is read.
            head_mask: What the output of each of the encoder's heads is multiplied with, [blocks, heads].
            decoder_head_mask: The same for the decoder's attention over itself.
            cross_attn_head_mask: The same for its attention over the encoder's output.
            past_key_values: Of the call before.
            use_cache: Return `past_key_values`.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block; the `cross_attentions` tell when
                each token was spoken.

        Raises:
            ValueError: When inputs are missing, given twice, of another shape, or too long.
        """
        if (input_features is None) == (encoder_outputs is None):
            raise ValueError("give exactly one of input_features and encoder_outputs.")
        if encoder_outputs is None:
            assert input_features is not None
            encoder_outputs = self.encode(
                input_features,
                head_mask=head_mask,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )
        return self.decode(
            encoder_outputs,
            decoder_input_ids,
            decoder_attention_mask,
            decoder_inputs_embeds=decoder_inputs_embeds,
            decoder_position_ids=decoder_position_ids,
            decoder_head_mask=decoder_head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
