"""Llama 1, 2 and 3 (Touvron et al., 2023: https://arxiv.org/abs/2302.13971, https://arxiv.org/abs/2407.21783)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from ..family import register_family
from ..fields import OneOf, Size
from ..layers import ACTIVATIONS, Attention
from .rotary_decoder import HEADS, KEYS, RotaryDecoder, RotaryDecoderConfig


@dataclass(kw_only=True)
class LlamaConfig(RotaryDecoderConfig):
    """A Llama decoder; sizes are those of Llama 7B."""

    name = "llama"
    head_dim: Size | None = None
    """Channels of each attention head; None: `hidden_size` over `num_attention_heads`."""
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "silu"
    """Activation of the MLPs' gates."""
    attention_bias: bool = False
    """Whether the four layers of attention have biases."""
    mlp_bias: bool = False
    """Whether the layers of the MLPs have biases."""


@register_family(
    "llama",
    LlamaConfig,
    "Llama 1, 2 and 3 (Touvron et al., 2023)",
    keys=KEYS,
    prefix="model.",
    titles=("Llama",),
    irrelevant=("max_sequence_length", "pretraining_tp"),
    fixed={"partial_rotary_factor": 1.0},
    heads=HEADS,
)
class Llama(RotaryDecoder):
    """The decoder as it is, with biases where the config says so."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(
            config,
            config.hidden_act,
            attention=partial(Attention, bias=config.attention_bias),
            mlp_bias=config.mlp_bias,
        )
