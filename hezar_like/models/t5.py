"""T5 (Raffel et al., 2019), T5 v1.1, mT5 (Xue et al., 2020) and FLAN-T5: https://arxiv.org/abs/1910.10683.

CPM-2 (Zhang et al., 2021: https://arxiv.org/abs/2106.10715), as its authors published it, is a T5 v1.1 too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from torch import nn

from ..backbones import TextEncoderDecoder
from ..blocks import Block, Stack
from ..configs import ModelConfig
from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Between, Deviation, Epsilon, Layers, OneOf, Probability, Size, TokenId, Vocabulary, coerce
from ..keymap import Table
from ..layers import (
    ACTIVATIONS,
    MLP,
    Attention,
    LanguageModelHead,
    RelativeBias,
    RMSNorm,
    TextEmbedding,
    TokenHead,
)

FEED_FORWARD = {"gated-gelu": "gelu_new"}
"""The activation of a `feed_forward_proj` whose name says another: T5 v1.1's gelu is the tanh form."""
Buckets = Annotated[int, Between(4, 2**20)]


@dataclass(kw_only=True)
class T5Config(ModelConfig):
    """A T5 encoder with its decoder."""

    name = "t5"
    aliases = {
        "d_model": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "d_kv": "head_dim",
        "d_ff": "intermediate_size",
        "layer_norm_epsilon": "layer_norm_eps",
    }
    vocab_size: Vocabulary = 32128
    """Number of tokens."""
    hidden_size: Size = 512
    """Size of the hidden states."""
    num_hidden_layers: Layers = 6
    """Number of the encoder's blocks."""
    num_decoder_layers: Layers | None = None
    """Number of the decoder's blocks; None: as many."""
    num_attention_heads: Size = 8
    """Number of attention heads."""
    head_dim: Size = 64
    """Channels of each attention head; with `num_attention_heads` it need not make up `hidden_size`."""
    intermediate_size: Size = 2048
    """Size between the two layers of each MLP."""
    relative_attention_num_buckets: Buckets = 32
    """Number of buckets of relative positions."""
    relative_attention_max_distance: Size = 128
    """From where on all distances share the last bucket."""
    dropout_rate: Probability = 0.1
    """Dropout everywhere, while training."""
    classifier_dropout: Probability = 0.0
    """Dropout of the heads that label, while training."""
    layer_norm_eps: Epsilon = 1e-6
    """Added to the mean square in every norm."""
    initializer_factor: Deviation = 1.0
    """What the standard deviations of random weights are multiplied with."""
    feed_forward_proj: str = "relu"
    """The MLPs' activation: "relu" (v1.0), "gated-gelu" (v1.1), or "gated-" and a name, or a name."""
    attention_scale: Annotated[float, Between(0, 1)] | None = 1.0
    """What attention scores are multiplied with; None: one over the root of `head_dim`, as ModelCenter's CPM-2 does."""
    logit_scale: float | Literal["inverse_root"] | None = None
    """What the decoder's output is multiplied with before it is scored; "inverse_root": one over the root of
    `hidden_size`; None: that where the head is the embedding, else 1."""
    tie_word_embeddings: bool = True
    """Whether tokens are scored with the embedding (v1.0)."""
    blind_padding: bool = False
    """Whether padding looks at nothing, as in ModelCenter; it tells only in what comes out at the padding."""
    pad_token_id: TokenId | None = 0
    """The padding token."""
    eos_token_id: TokenId | list[TokenId] | None = 1
    """The token that ends every text, or several."""
    decoder_start_token_id: TokenId = 0
    """The token every output starts from."""

    @property
    def gated(self) -> bool:
        """Whether the MLPs have a gate."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def activation(self) -> str:
        """The MLPs' activation, a name in `ACTIVATIONS`."""
        return FEED_FORWARD.get(self.feed_forward_proj, self.feed_forward_proj.removeprefix("gated-"))

    @property
    def head_scale(self) -> float:
        """What the decoder's output is multiplied with before it is scored."""
        scale = self.logit_scale
        if scale is None:
            scale = "inverse_root" if self.tie_word_embeddings else 1.0
        return self.hidden_size**-0.5 if isinstance(scale, str) else scale

    def check(self) -> None:
        super().check()
        owner = type(self).__name__
        OneOf(ACTIVATIONS).check(self.activation, f"{owner}.feed_forward_proj")
        for name in ("pad_token_id", "decoder_start_token_id"):
            Between(0, self.vocab_size - 1).check(self[name] or 0, f"{owner}.{name}")
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 2:
            raise ConfigError(
                f"{owner}: relative_attention_max_distance={self.relative_attention_max_distance} must be more than "
                f"half of relative_attention_num_buckets={self.relative_attention_num_buckets}. Change one of them."
            )


def keys(config: T5Config) -> Table:
    """The names of transformers."""
    table: dict[str, str | None] = {"shared": "backbone.embed.tokens"}
    wide = {"wi_0": "gate", "wi_1": "up"} if config.gated else {"wi": "up"}
    attention = {"q": "q", "k": "k", "v": "v", "o": "out"}
    for side, mlp in (("encoder", 1), ("decoder", 2)):
        block, own = f"{side}.block.{{}}.layer.", f"backbone.{side}.blocks.{{}}."
        table |= {
            f"{side}.embed_tokens": "backbone.embed.tokens",
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias": f"backbone.{side}.bias.table",
            f"{side}.final_layer_norm": f"backbone.{side}.norm",
            f"{block}0.layer_norm": f"{own}attn_norm",
            f"{block}{mlp}.layer_norm": f"{own}mlp_norm",
        }
        table |= {f"{block}0.SelfAttention.{a}": f"{own}attn.{b}" for a, b in attention.items()}
        table |= {f"{block}{mlp}.DenseReluDense.{a}": f"{own}mlp.{b}" for a, b in (wide | {"wo": "down"}).items()}
    table |= {
        f"decoder.block.{{}}.layer.1.EncDecAttention.{a}": f"backbone.decoder.blocks.{{}}.cross.{b}"
        for a, b in attention.items()
    }
    return table | {
        "decoder.block.{}.layer.1.layer_norm": "backbone.decoder.blocks.{}.cross_norm",
        # Written by the oldest versions; this attention has no relative positions.
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias": None,
    }


def read_settings(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """What else transformers' settings say: its version 5 calls all heads tied, and by the weights unties some."""
    tied = settings.get("tie_word_embeddings", True)
    scaled = settings.get("scale_decoder_outputs", tied is True and settings.get("model_type") != "mt5")
    scaled = coerce(scaled, bool, "scale_decoder_outputs")
    if tied is True and not scaled:
        tied = "lm_head.weight" not in names
    return {"tie_word_embeddings": tied, "logit_scale": "inverse_root" if scaled else 1.0}


def initialize(model: nn.Module, config: T5Config) -> None:
    """Random weights as T5 has them: for scores that are not scaled, queries start small."""
    factor, width, inner = config.initializer_factor, config.hidden_size, config.num_attention_heads * config.head_dim
    deviations = {
        "tokens": 1.0,
        "q": width**-0.5 if config.attention_scale is None else (width * config.head_dim) ** -0.5,
        "attn.out": inner**-0.5,
        "cross.out": inner**-0.5,
        "down": config.intermediate_size**-0.5,
    }
    for name, part in model.named_modules():
        if isinstance(part, RMSNorm):
            part.reset_parameters()
        elif isinstance(part, nn.Linear | nn.Embedding):
            parts = name.split(".")
            std = deviations.get(parts[-1], deviations.get(".".join(parts[-2:]), width**-0.5))
            nn.init.normal_(part.weight, std=factor * std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)


HEADS = {
    "text_generation": Head(
        lambda c: LanguageModelHead(c.hidden_size, c.vocab_size, scale=c.head_scale),
        {"lm_head": "head.out"},
        tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
        endings=("ForConditionalGeneration", "WithLMHeadModel"),
    ),
    "backbone": Head(),
    "text_embedding": Head(),
    "sequence_labeling": Head(
        lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.classifier_dropout, bias=c.classifier_bias),
        published=lambda c: False,
    ),
}


@register_family(
    "t5",
    T5Config,
    "T5 (Raffel et al., 2019), T5 v1.1, mT5, FLAN-T5, CPM-2 (Zhang et al., 2021)",
    aliases=("mt5",),
    model_types=("t5", "mt5"),
    titles=("T5", "MT5"),
    keys=keys,
    irrelevant=("n_positions", "dense_act_fn", "is_gated_act", "scale_decoder_outputs"),
    own=("attention_scale", "logit_scale", "blind_padding"),
    published=lambda c: c.attention_scale == 1.0 and c.head_scale in (1.0, c.hidden_size**-0.5),
    read_settings=read_settings,
    write_settings=lambda c: {"scale_decoder_outputs": c.head_scale != 1.0},
    initialize=initialize,
    heads=HEADS,
)
class T5(TextEncoderDecoder):
    """Pre-norm encoder and decoder without biases, with bucketed relative positions."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.decoder_start_token_id, self.pad_token_id = config.decoder_start_token_id, config.pad_token_id
        self.blind_padding = config.blind_padding
        norm = partial(RMSNorm, config.hidden_size, config.layer_norm_eps)
        attention = partial(
            Attention,
            config.hidden_size,
            config.num_attention_heads,
            head_dim=config.head_dim,
            bias=False,
            scale=config.attention_scale,
            dropout=config.dropout_rate,
        )
        mlp = partial(
            MLP,
            config.hidden_size,
            config.intermediate_size,
            config.activation,
            gated=config.gated,
            bias=False,
            dropout=config.dropout_rate,
        )

        def stack(layers: int, *, decodes: bool) -> Stack:
            blocks = [
                Block(attention(), mlp(), norm, cross=attention() if decodes else None, dropout=config.dropout_rate)
                for _ in range(layers)
            ]
            bias = RelativeBias(
                config.num_attention_heads,
                config.relative_attention_num_buckets,
                config.relative_attention_max_distance,
                bidirectional=not decodes,
            )
            return Stack(blocks, norm(), bias)

        self.embed = TextEmbedding(config.vocab_size, config.hidden_size, dropout=config.dropout_rate)
        layers = config.num_hidden_layers
        self.encoder = stack(layers, decodes=False)
        self.decoder = stack(layers if config.num_decoder_layers is None else config.num_decoder_layers, decodes=True)
