"""What Llama and the families after it share: rotary positions, norms without means, gated MLPs, windows."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from ..backbones import Decoder
from ..blocks import Block, Order, Stack
from ..configs import ModelConfig
from ..errors import ConfigError, did_you_mean
from ..family import Head
from ..fields import Between, Deviation, Epsilon, Layers, OneOf, Probability, Size, TokenId, Vocabulary, coerce
from ..layers import MLP, Attention, ClassificationHead, LanguageModelHead, RMSNorm, Rotary, TextEmbedding, TokenHead
from ..layers.rotary import SCALINGS, RotaryScaling

__all__ = [
    "BLOCK",
    "FULL",
    "HEADS",
    "KEYS",
    "SLIDING",
    "AttentionType",
    "Length",
    "RotaryDecoder",
    "RotaryDecoderConfig",
]

AttentionType = Literal["full_attention", "sliding_attention"]
FULL: AttentionType = "full_attention"
SLIDING: AttentionType = "sliding_attention"
Length = Annotated[int, Between(1, 2**31)]


@dataclass(kw_only=True)
class RotaryDecoderConfig(ModelConfig):
    """What the configs of these families share; defaults are Llama 7B's."""

    # Version 5 of transformers calls `rope_parameters` what holds both; export writes what earlier ones read, too.
    aliases = {"rope_parameters": "rope_scaling", "rope_scaling": "rope_scaling"}
    vocab_size: Vocabulary = 32000
    """Number of tokens."""
    hidden_size: Size = 4096
    """Size of the hidden states."""
    intermediate_size: Size = 11008
    """Size between the layers of each MLP."""
    num_hidden_layers: Layers = 32
    """Number of blocks."""
    num_attention_heads: Size = 32
    """Number of attention heads."""
    num_key_value_heads: Size | None = None
    """Number of heads of keys and values, each for as many heads of queries; None: `num_attention_heads`."""
    max_position_embeddings: Length = 2048
    """The longest text of the training, in tokens; longer ones are refused, where `rope_scaling` does not add to it."""
    initializer_range: Deviation = 0.02
    """Standard deviation of random weights."""
    rms_norm_eps: Epsilon = 1e-6
    """Added to the mean square in every norm."""
    attention_dropout: Probability = 0.0
    """Dropout on attention probabilities, while training."""
    classifier_dropout: Probability = 0.1
    """Dropout before the last layer of the sequence labeling head, while training."""
    rope_theta: Annotated[float, Between(1, 1e15)] = 10_000.0
    """Base of the rotary frequencies."""
    rope_scaling: dict[str, Any] | None = None
    """How rotary positions are stretched: `rope_type` ("linear", "dynamic", "llama3", "yarn") and its settings."""
    tie_word_embeddings: bool = False
    """Whether the head that scores tokens does so with the input embedding."""
    pad_token_id: TokenId | None = None
    """The padding token."""
    bos_token_id: TokenId | None = 1
    """The token a text starts with."""
    eos_token_id: TokenId | list[TokenId] | None = 2
    """The token that ends what is written, or several."""

    def attention_type(self, index: int) -> AttentionType:
        """The family's rule for the attention of a block, given its number."""
        return FULL

    @property
    def attention_types(self) -> list[AttentionType]:
        """The attention of each block."""
        given: list[AttentionType] | None = self.get("layer_types")
        return [self.attention_type(i) for i in range(self.num_hidden_layers)] if given is None else given

    @property
    def window(self) -> int | None:
        """How many tokens up to itself a token sees in sliding attention."""
        return self.get("sliding_window")

    @property
    def channels(self) -> int:
        """Channels of each attention head."""
        return self.get("head_dim") or self.hidden_size // self.num_attention_heads

    @property
    def max_tokens(self) -> int:
        """The longest text that can be read."""
        settings = self.rope_scaling or {}
        if settings.get("rope_type") not in ("linear", "yarn"):
            return self.max_position_embeddings
        trained = settings.get("original_max_position_embeddings") or self.max_position_embeddings
        return max(self.max_position_embeddings, int(settings["factor"] * trained))

    @property
    def rotary_scaling(self) -> RotaryScaling | None:
        """How rotary positions are stretched.

        Raises:
            ConfigError: When `rope_scaling` is wrong.
        """
        if self.rope_scaling is None:
            return None
        where = f"{type(self).__name__}.rope_scaling"
        values = {key: value for key, value in self.rope_scaling.items() if value is not None}
        name = coerce(values.pop("rope_type"), Annotated[str, OneOf(SCALINGS)], f"{where}['rope_type']")
        kind = SCALINGS[name]
        types = typing.get_type_hints(kind)
        needed = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
        if "original_max_position_embeddings" in needed:
            values.setdefault("original_max_position_embeddings", self.max_position_embeddings)
        for key in values:
            if key not in types:
                raise ConfigError(f"{where}: unknown key {key!r} for rope_type {name!r}.{did_you_mean(key, types)}")
        for key in needed:
            if key not in values:
                raise ConfigError(f"{where} has no {key!r}, which rope_type {name!r} needs. Add it.")
        try:
            return kind(**{key: coerce(value, types[key], f"{where}[{key!r}]") for key, value in values.items()})
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None

    def unfold_rope(self) -> None:
        """Brings transformers' spellings into one: `rope_theta`, and `rope_scaling` without it, if there is any."""
        if self.rope_scaling is None:
            return
        settings = dict(self.rope_scaling)
        older, theta = settings.pop("type", None), settings.pop("rope_theta", None)
        settings["rope_type"] = settings.get("rope_type") or older or "default"
        if theta is not None:
            self.rope_theta = theta
        self.rope_scaling = None if settings == {"rope_type": "default"} else settings

    def check(self) -> None:
        super().check()
        self.unfold_rope()
        owner, heads, kv_heads = type(self).__name__, self.num_attention_heads, self.num_key_value_heads
        _ = self.rotary_scaling  # checks it
        if self.get("head_dim") is None and self.hidden_size % heads:
            raise ConfigError(
                f"{owner}: hidden_size={self.hidden_size} is not divisible by num_attention_heads={heads}. "
                "Change one of them, or set head_dim."
            )
        if self.channels % 2:
            raise ConfigError(f"{owner}: heads of {self.channels} channels cannot turn in pairs. Use an even number.")
        if kv_heads is not None and heads % kv_heads:
            raise ConfigError(
                f"{owner}: num_attention_heads={heads} is not divisible by num_key_value_heads={kv_heads}. "
                "Change one of them."
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ConfigError(
                f"{owner}.pad_token_id is {self.pad_token_id}, but there are only {self.vocab_size} tokens "
                "(vocab_size). Choose a smaller one."
            )
        if len(self.attention_types) != self.num_hidden_layers:
            raise ConfigError(
                f"{owner}.layer_types has {len(self.attention_types)} items, but num_hidden_layers is "
                f"{self.num_hidden_layers}. Give one for each, or none at all."
            )
        if SLIDING in self.attention_types and self.window is None:
            raise ConfigError(f"{owner}.layer_types has {SLIDING!r}, but there is no window. Set sliding_window.")


BLOCK = "backbone.stack.blocks.{}."
KEYS = {
    "embed_tokens": "backbone.embed.tokens",
    "layers.{}.self_attn.q_proj": BLOCK + "attn.q",
    "layers.{}.self_attn.k_proj": BLOCK + "attn.k",
    "layers.{}.self_attn.v_proj": BLOCK + "attn.v",
    "layers.{}.self_attn.o_proj": BLOCK + "attn.out",
    "layers.{}.self_attn.q_norm": BLOCK + "attn.q_norm",
    "layers.{}.self_attn.k_norm": BLOCK + "attn.k_norm",
    "layers.{}.self_attn.rotary_emb.inv_freq": None,
    "layers.{}.mlp.gate_proj": BLOCK + "mlp.gate",
    "layers.{}.mlp.up_proj": BLOCK + "mlp.up",
    "layers.{}.mlp.down_proj": BLOCK + "mlp.down",
    "layers.{}.input_layernorm": BLOCK + "attn_norm",
    "layers.{}.post_attention_layernorm": BLOCK + "mlp_norm",
    "norm": "backbone.stack.norm",
}
HEADS = {
    "text_generation": Head(
        lambda c: LanguageModelHead(c.hidden_size, c.vocab_size, softcap=c.get("final_logit_softcapping")),
        {"lm_head": "head.out"},
        tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
    ),
    "backbone": Head(),
    "text_embedding": Head(),
    "text_classification": Head(
        lambda c: ClassificationHead(c.hidden_size, c.num_labels, activation=None, bias=False), {"score": "head.out"}
    ),
    "sequence_labeling": Head(
        lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.classifier_dropout, bias=c.classifier_bias),
        {"score": "head.out"},
        published=lambda c: c.classifier_bias,
    ),
}


class RotaryDecoder(Decoder):
    """Decoder with rotary positions, norms without means, and gated MLPs; a family says what is special about its own.

    Args:
        config: Sizes, rotary positions, and how far each block sees.
        activation: The MLPs', a name in `ACTIVATIONS`.
        attention: Makes the attention of a block; sizes, positions and window come from `config`.
        mlp_bias: Whether the layers of the MLPs have biases.
        order: Where the norms of a block are; see `Block`.
        norm_offset: Added to the weights of the norms; see `RMSNorm`.
        qk_norm: Whether the queries and keys of each head are normed.
        embedding_scale: What token vectors are multiplied with.
        rotaries: The positions for each kind of attention; default: one for all, from `config`.
    """

    def __init__(
        self,
        config: RotaryDecoderConfig,
        activation: str,
        *,
        attention: Callable[..., Attention],
        mlp_bias: bool = False,
        order: Order = "pre",
        norm_offset: float = 0.0,
        qk_norm: bool = False,
        embedding_scale: float = 1.0,
        rotaries: Mapping[AttentionType, Rotary] | None = None,
    ) -> None:
        super().__init__()
        width, channels = config.hidden_size, config.channels
        norm = partial(RMSNorm, eps=config.rms_norm_eps, offset=norm_offset)
        if rotaries is None:
            rotary = Rotary(channels, config.rope_theta, scaling=config.rotary_scaling)
            rotaries = {FULL: rotary, SLIDING: rotary}
        self.max_tokens = config.max_tokens
        self.embed = TextEmbedding(config.vocab_size, width, padding=config.pad_token_id, scale=embedding_scale)
        blocks = [
            Block(
                attention(
                    width,
                    config.num_attention_heads,
                    num_kv_heads=config.num_key_value_heads,
                    head_dim=channels,
                    dropout=config.attention_dropout,
                    norm=norm if qk_norm else None,
                    rotary=rotaries[kind],
                    window=config.window if kind == SLIDING else None,
                ),
                MLP(width, config.intermediate_size, activation, gated=True, bias=mlp_bias),
                partial(norm, width),
                order=order,
            )
            for kind in config.attention_types
        ]
        self.stack = Stack(blocks, norm(width))
