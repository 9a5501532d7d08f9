"""The text models of Gemma 3 (Gemma Team, 2025): https://arxiv.org/abs/2503.19786."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Between, Layers, Size, Vocabulary, coerce
from ..layers import Rotary
from .gemma2 import GEMMA_KEYS, Cap, Gemma2, Gemma2Config
from .rotary_decoder import FULL, HEADS, SLIDING, AttentionType, Length


@dataclass(kw_only=True)
class Gemma3Config(Gemma2Config):
    """A Gemma 3 decoder; sizes are those of Gemma 3 1B."""

    name = "gemma3"
    vocab_size: Vocabulary = 262144
    hidden_size: Size = 1152
    intermediate_size: Size = 6912
    num_attention_heads: Size = 4
    num_key_value_heads: Size | None = 1
    num_hidden_layers: Layers = 26
    max_position_embeddings: Length = 131072
    attn_logit_softcapping: None = None
    """Attention scores are not capped."""
    final_logit_softcapping: Cap | None = None
    layer_types: list[AttentionType] | None = None
    """The attention of each block, "full_attention" or "sliding_attention"; None: by `sliding_window_pattern`."""
    sliding_window_pattern: Size = 6
    """Each block with this number, counted from one, and its multiples sees everything, the others slide."""
    use_bidirectional_attention: Literal[False] | None = False
    rope_theta: Annotated[float, Between(1, 1e15)] = 1_000_000.0
    """Base of the rotary frequencies where everything is seen."""
    rope_local_base_freq: Annotated[float, Between(1, 1e15)] = 10_000.0
    """Base of the rotary frequencies in sliding attention."""
    rope_scaling: dict[str, Any] | None = None
    """How rotary positions are stretched where everything is seen; see Llama's."""

    def attention_type(self, index: int) -> AttentionType:
        return SLIDING if (index + 1) % self.sliding_window_pattern else FULL

    @property
    def max_tokens(self) -> int:
        return self.max_position_embeddings  # stretched already

    def unfold_rope(self) -> None:
        """See there; here version 5 of transformers has such settings for each kind of attention."""
        nested = self.rope_scaling or {}
        if FULL in nested or SLIDING in nested:
            where = f"{type(self).__name__}.rope_scaling"
            local = coerce(nested.get(SLIDING), dict[str, Any] | None, f"{where}[{SLIDING!r}]") or {}
            theta, kinds = local.pop("rope_theta", None), {local.pop("rope_type", None), local.pop("type", None)}
            if local or not kinds <= {None, "default"}:
                raise ConfigError(
                    f"{where} stretches the positions of {SLIDING!r}, which is not supported. Leave it out there."
                )
            if theta is not None:
                self.rope_local_base_freq = theta
            self.rope_scaling = nested.get(FULL)
        super().unfold_rope()


@register_family(
    "gemma3",
    Gemma3Config,
    "Gemma 3, the text models (Gemma Team, 2025)",
    keys=GEMMA_KEYS,
    prefix="model.",
    model_types=("gemma3_text",),
    titles=("Gemma3",),
    irrelevant=("cache_implementation", "hidden_act"),
    fixed={"partial_rotary_factor": 1.0},
    heads={
        "text_generation": HEADS["text_generation"],
        "backbone": Head(endings=("TextModel",)),
        "text_embedding": Head(endings=("TextModel",)),
        "text_classification": replace(HEADS["text_classification"], endings=("TextForSequenceClassification",)),
    },
)
class Gemma3(Gemma2):
    """Gemma 2 with norms on queries and keys in place of soft caps, more windows, and two kinds of positions."""

    def __init__(self, config: Gemma3Config) -> None:
        rotaries: Mapping[AttentionType, Rotary] = {
            FULL: Rotary(config.channels, config.rope_theta, scaling=config.rotary_scaling),
            SLIDING: Rotary(config.channels, config.rope_local_base_freq),
        }
        super().__init__(config, qk_norm=True, rotaries=rotaries)
