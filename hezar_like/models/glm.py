"""GLM (Du et al., 2021): https://arxiv.org/abs/2103.10360. Not GLM-4, which transformers calls glm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from torch import nn

from ..backbones import BlankFiller
from ..blocks import Block, Stack
from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Between, Count, Epsilon, Layers, OneOf, Probability, Size, TokenId, Vocabulary
from ..keymap import Stored, Table
from ..layers import (
    ACTIVATIONS,
    MLP,
    Attention,
    ClassificationHead,
    LanguageModelHead,
    TextEmbedding,
    TokenHead,
    initialize,
)
from ..layers.blanks import Blanks
from ..layers.prompts import PromptEncoder
from ..layers.transformer_xl import TransformerXLAttention
from .text_config import TextConfig


@dataclass(kw_only=True)
class GLMConfig(TextConfig):
    """A GLM; by default its sizes are GLM-large-ch's, and it has no command tokens: they are the tokenizer's."""

    name = "glm"
    aliases = {
        "num_layers": "num_hidden_layers",
        "max_sequence_length": "max_position_embeddings",
        "attention_dropout_prob": "attention_probs_dropout_prob",
        "output_dropout_prob": "hidden_dropout_prob",
    }
    vocab_size: Vocabulary = 50048
    hidden_size: Size = 1024
    num_hidden_layers: Layers = 24
    num_attention_heads: Size = 16
    intermediate_size: Size | None = None  # type: ignore[assignment]  # here a size may follow from another
    """Size between the two layers of each MLP; None: four times `hidden_size`."""
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "gelu_new"
    embedding_dropout_prob: Probability = 0.1
    """Dropout on embeddings, while training."""
    classifier_dropout: Probability = 0.1
    """Dropout before the last layer of a head, while training."""
    max_position_embeddings: Size = 1024
    """The most tokens of a text, and of a piece; there is one position more for each."""
    max_memory_length: Count = 511
    """How many positions `mems` hold, where not all are asked for."""
    layer_norm_eps: Epsilon = 1e-5
    """Added to the variance in every norm."""
    block_position_encoding: bool = True
    """Whether there are positions within pieces besides those in the text."""
    relative_encoding: bool = False
    """Whether there are no learned positions, but Transformer-XL's relative ones. They are made for reading forwards:
    what a text's tokens see of later ones depends on the length of the row, padding included, as in the original."""
    attention_scale: Annotated[float, Between(1, 1000)] = 1.0
    """What FlagAI divides scores by before a softmax, and multiplies with in it, so that half precision holds them; it
    changes no result, and scores are summed up in float32 here."""
    spell_length: Size | None = None
    """Number of learned prompt vectors (P-tuning); None: there are none."""
    spell_func: Literal["lstm", "mlp", "none"] = "lstm"
    """What prompt vectors go through."""
    pool_token: Literal["cls", "start", "pad"] = "cls"
    """What sums up an input: its first token, the one behind the text, which starts a piece, or the text's last."""
    pad_token_id: TokenId | None = None
    """The padding token."""
    eos_token_id: TokenId | None = None
    """The token that ends a text."""
    sop_token_id: TokenId | None = None
    """The token that starts a piece."""
    eop_token_id: TokenId | None = None
    """The token that ends a piece."""
    mask_token_id: TokenId | None = None
    """The blank for some words."""
    smask_token_id: TokenId | None = None
    """The blank for sentences."""
    gmask_token_id: TokenId | None = None
    """The blank at the end, for all that comes after."""

    def check(self) -> None:
        super().check()
        for key in (name for name in self.fields() if name.endswith("_token_id")):
            token = getattr(self, key)
            if token is not None and token >= self.vocab_size:
                raise ConfigError(
                    f"{type(self).__name__}.{key} is {token}, but there are only {self.vocab_size} tokens "
                    "(vocab_size). Choose a smaller one."
                )

    @property
    def blanks(self) -> Blanks | None:
        """The tokens of blank filling; None when they are not all named."""
        tokens = (self.gmask_token_id, self.mask_token_id, self.smask_token_id)
        masks = [token for token in tokens if token is not None]
        if not masks or self.sop_token_id is None or self.eop_token_id is None:
            return None
        return Blanks(tuple(masks), self.sop_token_id, self.eop_token_id, masks[0], self.eos_token_id)


BLOCK = "backbone.stack.blocks.{}."
KEYS: Table = {
    "word_embeddings": "backbone.embed.tokens",
    "transformer.position_embeddings": "backbone.embed.positions",
    "transformer.position_embeddings.inv_freq": None,
    "transformer.block_position_embeddings": "backbone.embed.types",
    "transformer.layers.{}.input_layernorm": BLOCK + "attn_norm",
    "transformer.layers.{}.attention.query_key_value": Stored(BLOCK + "attn.q", BLOCK + "attn.k", BLOCK + "attn.v"),
    "transformer.layers.{}.attention.relative": BLOCK + "attn.relative",
    "transformer.layers.{}.attention.dense": BLOCK + "attn.out",
    "transformer.layers.{}.post_attention_layernorm": BLOCK + "mlp_norm",
    "transformer.layers.{}.mlp.dense_h_to_4h": BLOCK + "mlp.up",
    "transformer.layers.{}.mlp.dense_4h_to_h": BLOCK + "mlp.down",
    "transformer.final_layernorm": "backbone.stack.norm",
    "transformer.r_w_bias": "backbone.stack.blocks.0.attn.content_bias",
    "transformer.r_r_bias": "backbone.stack.blocks.0.attn.position_bias",
    "prompt_spell.spell_embeddings": "backbone.prompts.tokens",
    "prompt_spell.lstm_head": "backbone.prompts.lstm",
    "prompt_spell.mlp_head.0": "backbone.prompts.up",
    "prompt_spell.mlp_head.2": "backbone.prompts.down",
}
CLASSIFIER: Table = {"pool_layer": "head.dense", "multichoice_head": "head.out"}


def shared_biases(config: GLMConfig) -> dict[str, str]:
    """Weights of relative positions that all layers share: names, with that of the first layer."""
    layers = range(1, config.num_hidden_layers) if config.relative_encoding else ()
    return {
        f"{BLOCK.format(layer)}attn.{name}": f"{BLOCK.format(0)}attn.{name}"
        for layer in layers
        for name in ("content_bias", "position_bias")
    }


def tied(config: GLMConfig) -> Mapping[str, str]:
    """The same of a model that scores tokens."""
    head = {"head.out.weight": "backbone.embed.tokens.weight"} if config.tie_word_embeddings else {}
    return shared_biases(config) | head


def classification_head(config: GLMConfig, labels: int) -> ClassificationHead:
    """Scores what sums up an input; see `pool_token`."""
    return ClassificationHead(config.hidden_size, labels, dropout=config.classifier_dropout)


LANGUAGE_MODEL = Head(lambda c: LanguageModelHead(c.hidden_size, c.vocab_size), tied=tied)


@torch.no_grad()
def initialize_glm(model: nn.Module, config: GLMConfig) -> None:
    """Random weights as GLM's authors have them: what is added to the residual stream starts small."""
    initialize(model, config.initializer_range)
    std = config.initializer_range / (2 * max(1, config.num_hidden_layers)) ** 0.5
    for part in model.modules():
        if isinstance(part, Block):
            for layer in (part.attn.out, part.mlp.down):
                layer.weight.normal_(0.0, std)


@register_family(
    "glm",
    GLMConfig,
    "GLM (Du et al., 2021)",
    keys=KEYS,
    spellings={r"^model\.": ""},
    model_types=(),
    initialize=initialize_glm,
    heads={
        "text_generation": LANGUAGE_MODEL,
        "cloze": LANGUAGE_MODEL,
        "backbone": Head(tied=shared_biases),
        "text_embedding": Head(tied=shared_biases),
        "text_classification": Head(lambda c: classification_head(c, c.num_labels), CLASSIFIER, tied=shared_biases),
        "multiple_choice": Head(lambda c: classification_head(c, 1), CLASSIFIER, tied=shared_biases),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.classifier_dropout, bias=c.classifier_bias),
            tied=shared_biases,
        ),
    },
)
class GLM(BlankFiller):
    """Pre-norm stack that reads texts and fills their blanks."""

    def __init__(self, config: GLMConfig) -> None:
        super().__init__()
        relative = config.relative_encoding
        blocks = config.block_position_encoding and not relative
        positions = 0 if relative else config.max_position_embeddings + blocks
        norm = partial(nn.LayerNorm, config.hidden_size, config.layer_norm_eps)
        self.max_tokens = None if relative else config.max_position_embeddings
        self.max_memory, self.pool = config.max_memory_length, config.pool_token
        self.padding_token = config.padding_token
        # Without positions within pieces, pieces are no use: where their tokens stand depends on what was left out.
        self.blanks = config.blanks if blocks or relative else None
        self.embed = TextEmbedding(
            config.vocab_size,
            config.hidden_size,
            positions=positions,
            types=positions if blocks else 0,
            dropout=config.embedding_dropout_prob,
        )
        self.prompts = (
            None
            if config.spell_length is None
            else PromptEncoder(config.spell_length, config.hidden_size, config.spell_func)
        )

        def attention() -> Attention:
            width, heads, dropout = config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob
            if not relative:
                return Attention(width, heads, dropout=dropout)
            return TransformerXLAttention(width, heads, dropout=dropout, position_dropout=config.embedding_dropout_prob)

        self.stack = Stack(
            [
                Block(
                    attention(),
                    MLP(config.hidden_size, config.intermediate_size or 4 * config.hidden_size, config.hidden_act),
                    norm,
                    dropout=config.hidden_dropout_prob,
                )
                for _ in range(config.num_hidden_layers)
            ],
            norm(),
        )
