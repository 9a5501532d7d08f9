"""GPT-2 (Radford et al., 2019): https://cdn.openai.com/better-language-models/language-models.pdf.

CPM-1 (Zhang et al., 2020: https://arxiv.org/abs/2012.00413), as its authors published it, is a GPT-2 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from torch import nn

from ..backbones import Decoder
from ..blocks import Block, Stack
from ..family import Head, register_family
from ..fields import Between, Count, Epsilon, OneOf, Probability, Size, TokenId, Vocabulary
from ..keymap import Stored
from ..layers import ACTIVATIONS, MLP, Attention, ClassificationHead, LanguageModelHead, TextEmbedding, TokenHead
from .text_config import TextConfig


@dataclass(kw_only=True)
class GPT2Config(TextConfig):
    """A GPT-2 decoder."""

    name = "gpt2"
    aliases = {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
        "resid_pdrop": "hidden_dropout_prob",
        "attn_pdrop": "attention_probs_dropout_prob",
    }
    vocab_size: Vocabulary = 50257
    intermediate_size: Size | None = None  # type: ignore[assignment]  # here a size may follow from another
    """Size between the two layers of each MLP; None: four times `hidden_size`."""
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "gelu_new"
    embd_pdrop: Probability = 0.1
    """Dropout on embeddings, while training."""
    classifier_dropout: Probability = 0.1
    """Dropout before the last layer of the sequence labeling head, while training."""
    max_position_embeddings: Size = 1024
    layer_norm_eps: Epsilon = 1e-5
    """Added to the variance in every norm."""
    bos_token_id: TokenId | None = 50256
    """The token a text may start with."""
    eos_token_id: TokenId | list[TokenId] | None = 50256
    """The token that ends what is written, or several."""
    pad_token_id: TokenId | None = None
    """The padding token."""
    unused_tokens: Count = 0
    """How many tokens at the end of the vocabulary only fill it up and are never written."""

    def check(self) -> None:
        super().check()
        Between(0, self.vocab_size - 1).check(self.unused_tokens, f"{type(self).__name__}.unused_tokens")


BLOCK = "backbone.stack.blocks.{}."
KEYS = {
    "wte": "backbone.embed.tokens",
    "wpe": "backbone.embed.positions",
    "h.{}.ln_1": BLOCK + "attn_norm",
    "h.{}.attn.c_attn": Stored(BLOCK + "attn.q", BLOCK + "attn.k", BLOCK + "attn.v", transposed=True),
    "h.{}.attn.c_proj": Stored(BLOCK + "attn.out", transposed=True),
    "h.{}.attn.bias": None,
    "h.{}.attn.masked_bias": None,
    "h.{}.ln_2": BLOCK + "mlp_norm",
    "h.{}.mlp.c_fc": Stored(BLOCK + "mlp.up", transposed=True),
    "h.{}.mlp.c_proj": Stored(BLOCK + "mlp.down", transposed=True),
    "ln_f": "backbone.stack.norm",
}
LM_HEAD = {"lm_head": "head.out"}
IRRELEVANT = (
    "n_ctx",
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
)
"""Settings of another head, and of how scores are rounded."""


@register_family(
    "gpt2",
    GPT2Config,
    "GPT-2 (Radford et al., 2019), CPM-1 (Zhang et al., 2020)",
    keys=KEYS,
    prefix="transformer.",
    titles=("GPT2",),
    irrelevant=IRRELEVANT,
    fixed={"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True},
    own=("unused_tokens", "mask_padding_tokens"),
    published=lambda c: c.unused_tokens == 0,
    heads={
        "text_generation": Head(
            lambda c: LanguageModelHead(c.hidden_size, c.vocab_size, unused=c.unused_tokens),
            LM_HEAD,
            tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
            endings=("LMHeadModel",),
        ),
        "backbone": Head(),
        "text_embedding": Head(),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, activation=None, bias=False),
            {"score": "head.out"},
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.classifier_dropout, bias=c.classifier_bias),
            {"classifier": "head.out"},
            published=lambda c: c.classifier_bias,
        ),
    },
)
class GPT2(Decoder):
    """Pre-norm decoder with learned positions."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.hidden_size, config.layer_norm_eps)
        self.max_tokens = config.max_position_embeddings
        self.padding_token = config.padding_token
        self.embed = TextEmbedding(
            config.vocab_size,
            config.hidden_size,
            positions=config.max_position_embeddings,
            dropout=config.embd_pdrop,
        )
        self.stack = Stack(
            [
                Block(
                    Attention(
                        config.hidden_size, config.num_attention_heads, dropout=config.attention_probs_dropout_prob
                    ),
                    MLP(config.hidden_size, config.intermediate_size or 4 * config.hidden_size, config.hidden_act),
                    norm,
                    dropout=config.hidden_dropout_prob,
                )
                for _ in range(config.num_hidden_layers)
            ],
            norm(),
        )
