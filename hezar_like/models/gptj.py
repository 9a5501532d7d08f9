"""GPT-J (Wang and Komatsuzaki, 2021): https://github.com/kingoflolz/mesh-transformer-jax."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from ..backbones import Decoder
from ..blocks import Block, Stack
from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Layers, Probability, Size, Vocabulary
from ..keymap import Table
from ..layers import MLP, Attention, ClassificationHead, LanguageModelHead, Rotary, TextEmbedding, TokenHead
from .gpt2 import BLOCK, IRRELEVANT, LM_HEAD, GPT2Config


@dataclass(kw_only=True)
class GPTJConfig(GPT2Config):
    """A GPT-J decoder."""

    name = "gptj"
    vocab_size: Vocabulary = 50400
    hidden_size: Size = 4096
    num_hidden_layers: Layers = 28
    num_attention_heads: Size = 16
    max_position_embeddings: Size = 2048
    hidden_dropout_prob: Probability = 0.0
    attention_probs_dropout_prob: Probability = 0.0
    embd_pdrop: Probability = 0.0
    rotary_dim: Size = 64
    """How many channels of each head are turned by their positions, the first ones; an even number."""
    shared_norm: bool = True
    """Whether each block's attention and MLP share one norm; ModelCenter's files have one for each."""
    tie_word_embeddings: bool = False

    def check(self) -> None:
        super().check()
        channels = self.hidden_size // self.num_attention_heads
        if self.rotary_dim % 2 or self.rotary_dim > channels:
            raise ConfigError(
                f"{type(self).__name__}.rotary_dim is {self.rotary_dim}; it must be even and at most {channels}, the "
                "channels of each head."
            )


def keys(config: GPTJConfig) -> Table:
    """The names of transformers, and one in their style for the norm it does not have."""
    own_norm = {} if config.shared_norm else {"h.{}.ln_2": BLOCK + "mlp_norm"}
    return own_norm | {
        "wte": "backbone.embed.tokens",
        "h.{}.ln_1": BLOCK + "attn_norm",
        "h.{}.attn.q_proj": BLOCK + "attn.q",
        "h.{}.attn.k_proj": BLOCK + "attn.k",
        "h.{}.attn.v_proj": BLOCK + "attn.v",
        "h.{}.attn.out_proj": BLOCK + "attn.out",
        "h.{}.attn.bias": None,
        "h.{}.attn.masked_bias": None,
        "h.{}.mlp.fc_in": BLOCK + "mlp.up",
        "h.{}.mlp.fc_out": BLOCK + "mlp.down",
        "ln_f": "backbone.stack.norm",
    }


@register_family(
    "gptj",
    GPTJConfig,
    "GPT-J (Wang and Komatsuzaki, 2021)",
    keys=keys,
    prefix="transformer.",
    titles=("GPTJ",),
    irrelevant=IRRELEVANT,
    fixed={"rotary": True, "scale_attn_weights": True},
    own=("unused_tokens", "mask_padding_tokens", "shared_norm", "classifier_dropout"),
    published=lambda c: c.shared_norm and c.unused_tokens == 0,
    heads={
        "text_generation": Head(
            lambda c: LanguageModelHead(c.hidden_size, c.vocab_size, bias=True, unused=c.unused_tokens),
            LM_HEAD,
            tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
        ),
        "backbone": Head(),
        "text_embedding": Head(),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, activation=None, bias=False),
            {"score": "head.out"},
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.classifier_dropout, bias=c.classifier_bias),
            published=lambda c: False,
        ),
    },
)
class GPTJ(Decoder):
    """Decoder whose attention and MLP stand side by side, with rotary positions."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.hidden_size, config.layer_norm_eps)
        rotary = Rotary(config.rotary_dim, interleaved=True)
        self.max_tokens = config.max_position_embeddings
        self.padding_token = config.padding_token
        self.embed = TextEmbedding(config.vocab_size, config.hidden_size, dropout=config.embd_pdrop)
        self.stack = Stack(
            [
                Block(
                    Attention(
                        config.hidden_size,
                        config.num_attention_heads,
                        bias=False,
                        dropout=config.attention_probs_dropout_prob,
                        rotary=rotary,
                    ),
                    MLP(config.hidden_size, config.intermediate_size or 4 * config.hidden_size, config.hidden_act),
                    norm,
                    order="parallel",
                    dropout=config.hidden_dropout_prob,
                    shared_norm=config.shared_norm,
                )
                for _ in range(config.num_hidden_layers)
            ],
            norm(),
        )
