"""Qwen3 (Yang et al., 2025): https://arxiv.org/abs/2505.09388."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..family import register_family
from ..fields import Layers, Size, Vocabulary
from ..layers import Attention
from .qwen2 import Qwen2Config
from .rotary_decoder import HEADS, KEYS, RotaryDecoder


@dataclass(kw_only=True)
class Qwen3Config(Qwen2Config):
    """A Qwen3 decoder; sizes are those of Qwen3 8B."""

    name = "qwen3"
    vocab_size: Vocabulary = 151936
    hidden_size: Size = 4096
    intermediate_size: Size = 12288
    num_hidden_layers: Layers = 36
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 8
    head_dim: Size = 128
    """Channels of each attention head; with `num_attention_heads` it need not make up `hidden_size`."""
    attention_bias: bool = False
    """Whether the four layers of attention have biases."""


@register_family(
    "qwen3",
    Qwen3Config,
    "Qwen3 (Yang et al., 2025)",
    keys=KEYS,
    prefix="model.",
    titles=("Qwen3",),
    fixed={"partial_rotary_factor": 1.0},
    heads=HEADS,
)
class Qwen3(RotaryDecoder):
    """Llama with norms on the queries and keys of each head."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(
            config, config.hidden_act, attention=partial(Attention, bias=config.attention_bias), qk_norm=True
        )
