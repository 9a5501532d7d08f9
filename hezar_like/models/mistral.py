"""Mistral (Jiang et al., 2023): https://arxiv.org/abs/2310.06825."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from ..family import register_family
from ..fields import OneOf, Size
from ..layers import ACTIVATIONS, Attention
from .rotary_decoder import FULL, HEADS, KEYS, SLIDING, AttentionType, Length, RotaryDecoder, RotaryDecoderConfig


@dataclass(kw_only=True)
class MistralConfig(RotaryDecoderConfig):
    """A Mistral decoder; sizes are those of Mistral 7B."""

    name = "mistral"
    intermediate_size: Size = 14336
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Length = 131072
    head_dim: Size | None = None
    """Channels of each attention head; None: `hidden_size` over `num_attention_heads`."""
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "silu"
    """Activation of the MLPs' gates."""
    sliding_window: Length | None = 4096
    """How many tokens up to itself a token sees; None: all."""

    def attention_type(self, index: int) -> AttentionType:
        return FULL if self.sliding_window is None else SLIDING


@register_family(
    "mistral",
    MistralConfig,
    "Mistral (Jiang et al., 2023)",
    keys=KEYS,
    prefix="model.",
    titles=("Mistral",),
    fixed={"partial_rotary_factor": 1.0},
    heads=HEADS,
)
class Mistral(RotaryDecoder):
    """Llama in which each token sees a window."""

    def __init__(self, config: MistralConfig) -> None:
        super().__init__(config, config.hidden_act, attention=partial(Attention, bias=False))
