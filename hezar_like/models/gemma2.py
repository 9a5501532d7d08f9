"""Gemma 2 (Gemma Team, 2024): https://arxiv.org/abs/2408.00118."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from ..family import register_family
from ..fields import Between, Layers, OneOf, Size, TokenId, Vocabulary
from ..layers import ACTIVATIONS, Attention, Rotary
from .rotary_decoder import (
    BLOCK,
    FULL,
    HEADS,
    KEYS,
    SLIDING,
    AttentionType,
    Length,
    RotaryDecoder,
    RotaryDecoderConfig,
)

Cap = Annotated[float, Between(1e-6, 1e6)]


@dataclass(kw_only=True)
class Gemma2Config(RotaryDecoderConfig):
    """A Gemma 2 decoder; sizes are those of Gemma 2 2B."""

    name = "gemma2"
    vocab_size: Vocabulary = 256000
    hidden_size: Size = 2304
    intermediate_size: Size = 9216
    num_hidden_layers: Layers = 26
    num_attention_heads: Size = 8
    num_key_value_heads: Size | None = 4
    head_dim: Size = 256
    """Channels of each attention head; with `num_attention_heads` it need not make up `hidden_size`."""
    hidden_activation: Annotated[str, OneOf(ACTIVATIONS)] = "gelu_pytorch_tanh"
    """Activation of the MLPs' gates."""
    max_position_embeddings: Length = 8192
    attention_bias: bool = False
    """Whether the four layers of attention have biases."""
    query_pre_attn_scalar: Size = 256
    """Attention scores are divided by its root."""
    attn_logit_softcapping: Cap | None = 50.0
    """What attention scores are kept below, smoothly; None: they are not."""
    final_logit_softcapping: Cap | None = 30.0
    """What the scores of tokens are kept below, smoothly; None: they are not."""
    sliding_window: Length | None = 4096
    """How many tokens up to itself a token sees in sliding attention."""
    layer_types: list[AttentionType] | None = None
    """The attention of each block, "full_attention" or "sliding_attention"; None: by turns, the first one slides."""
    use_bidirectional_attention: Literal[False] | None = None
    """Only attention to earlier tokens exists here."""
    tie_word_embeddings: bool = True
    pad_token_id: TokenId | None = 0
    bos_token_id: TokenId | None = 2
    eos_token_id: TokenId | list[TokenId] | None = 1

    def attention_type(self, index: int) -> AttentionType:
        return FULL if index % 2 else SLIDING


GEMMA_KEYS = KEYS | {
    "layers.{}.post_attention_layernorm": BLOCK + "attn_out_norm",
    "layers.{}.pre_feedforward_layernorm": BLOCK + "mlp_norm",
    "layers.{}.post_feedforward_layernorm": BLOCK + "mlp_out_norm",
}


@register_family(
    "gemma2",
    Gemma2Config,
    "Gemma 2 (Gemma Team, 2024)",
    keys=GEMMA_KEYS,
    prefix="model.",
    titles=("Gemma2",),
    irrelevant=("cache_implementation", "hidden_act"),
    fixed={"partial_rotary_factor": 1.0},
    heads=HEADS,
)
class Gemma2(RotaryDecoder):
    """Norms before and after each layer, around one; soft caps; windows in every other block.

    Args:
        config: See there.
        qk_norm: Whether the queries and keys of each head are normed.
        rotaries: The positions for each kind of attention; default: one for all.
    """

    def __init__(
        self,
        config: Gemma2Config,
        *,
        qk_norm: bool = False,
        rotaries: Mapping[AttentionType, Rotary] | None = None,
    ) -> None:
        super().__init__(
            config,
            config.hidden_activation,
            attention=partial(
                Attention,
                bias=config.attention_bias,
                scale=config.query_pre_attn_scalar**-0.5,
                softcap=config.attn_logit_softcapping,
            ),
            order="sandwich",
            norm_offset=1.0,
            qk_norm=qk_norm,
            embedding_scale=config.hidden_size**0.5,
            rotaries=rotaries,
        )
