"""Qwen2 (Yang et al., 2024): https://arxiv.org/abs/2407.10671, and Qwen2.5, https://arxiv.org/abs/2412.15115."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from ..family import register_family
from ..fields import Count, Layers, OneOf, Size, TokenId, Vocabulary
from ..layers import ACTIVATIONS, Attention
from .rotary_decoder import FULL, HEADS, KEYS, SLIDING, AttentionType, Length, RotaryDecoder, RotaryDecoderConfig


@dataclass(kw_only=True)
class Qwen2Config(RotaryDecoderConfig):
    """A Qwen2 decoder; sizes are those of Qwen2 7B."""

    name = "qwen2"
    vocab_size: Vocabulary = 152064
    hidden_size: Size = 3584
    intermediate_size: Size = 18944
    num_hidden_layers: Layers = 28
    num_attention_heads: Size = 28
    num_key_value_heads: Size | None = 4
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "silu"
    """Activation of the MLPs' gates."""
    max_position_embeddings: Length = 32768
    use_sliding_window: bool = False
    """Whether any block has a window."""
    sliding_window: Length | None = 4096
    """How many tokens up to itself a token sees in the blocks with a window."""
    max_window_layers: Count = 28
    """How many blocks, the first ones, have no window."""
    layer_types: list[AttentionType] | None = None
    """The attention of each block, "full_attention" or "sliding_attention"; None: by `max_window_layers`."""
    bos_token_id: TokenId | None = None
    eos_token_id: TokenId | list[TokenId] | None = None

    @property
    def window(self) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    def attention_type(self, index: int) -> AttentionType:
        return FULL if self.window is None or index < self.max_window_layers else SLIDING


@register_family(
    "qwen2",
    Qwen2Config,
    "Qwen2 and Qwen2.5 (Yang et al., 2024)",
    keys=KEYS,
    prefix="model.",
    titles=("Qwen2",),
    fixed={"partial_rotary_factor": 1.0, "use_mrope": False},
    heads=HEADS,
)
class Qwen2(RotaryDecoder):
    """Llama with biases on queries, keys and values."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config, config.hidden_act, attention=partial(Attention, bias=True, out_bias=False))
