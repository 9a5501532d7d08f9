"""BERT (Devlin et al., 2018): https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from torch import nn

from ..blocks import Backbone, Block, Stack
from ..configs import ModelConfig
from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Deviation, Epsilon, Layers, OneOf, Probability, Size, TokenId, Vocabulary
from ..keymap import Table
from ..layers import (
    ACTIVATIONS,
    MLP,
    Attention,
    ClassificationHead,
    MaskFillingHead,
    Pooler,
    TextEmbedding,
    TokenHead,
)


@dataclass(kw_only=True)
class EncoderConfig(ModelConfig):
    """What the configs of BERT and its relatives share."""

    vocab_size: Vocabulary = 30522
    """Number of tokens."""
    hidden_size: Size = 768
    """Size of the hidden states."""
    num_hidden_layers: Layers = 12
    """Number of blocks."""
    num_attention_heads: Size = 12
    """Number of attention heads; must divide `hidden_size`."""
    intermediate_size: Size = 3072
    """Size between the two layers of each MLP."""
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "gelu"
    """Activation of the MLPs."""
    hidden_dropout_prob: Probability = 0.1
    """Dropout on embeddings and on what each layer adds, while training."""
    attention_probs_dropout_prob: Probability = 0.1
    """Dropout on attention probabilities, while training."""
    max_position_embeddings: Size = 512
    """Number of learned positions: the longest input in tokens."""
    initializer_range: Deviation = 0.02
    """Standard deviation of random weights."""
    pad_token_id: TokenId | None = 0
    """The padding token."""
    tie_word_embeddings: bool = True
    """Whether mask filling scores tokens with the input embedding."""

    def check(self) -> None:
        super().check()
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{type(self).__name__}: hidden_size={self.hidden_size} is not divisible by "
                f"num_attention_heads={self.num_attention_heads}. Change one of them."
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ConfigError(
                f"{type(self).__name__}.pad_token_id is {self.pad_token_id}, but there are only "
                f"{self.vocab_size} tokens (vocab_size). Choose a smaller one."
            )


@dataclass(kw_only=True)
class BertConfig(EncoderConfig):
    """A BERT encoder."""

    name = "bert"
    type_vocab_size: Size = 2
    """Number of segment types."""
    layer_norm_eps: Epsilon = 1e-12
    """Added to the variance in every norm."""
    classifier_dropout: Probability | None = None
    """Dropout before the last layer of a head; None: `hidden_dropout_prob`."""
    add_pooling_layer: bool = True
    """Whether there is a pooler, for the tasks that keep its output or its weights."""
    position_embedding_type: Literal["absolute"] = "absolute"
    """Only learned absolute positions exist here."""

    @property
    def head_dropout(self) -> float:
        """Dropout probability before the last layer of a head."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


BLOCK = "backbone.stack.blocks.{}."
KEYS = {
    "embeddings.word_embeddings": "backbone.embed.tokens",
    "embeddings.position_embeddings": "backbone.embed.positions",
    "embeddings.token_type_embeddings": "backbone.embed.types",
    "embeddings.LayerNorm": "backbone.embed.norm",
    "embeddings.position_ids": None,
    "embeddings.token_type_ids": None,
    "encoder.layer.{}.attention.self.query": BLOCK + "attn.q",
    "encoder.layer.{}.attention.self.key": BLOCK + "attn.k",
    "encoder.layer.{}.attention.self.value": BLOCK + "attn.v",
    "encoder.layer.{}.attention.output.dense": BLOCK + "attn.out",
    "encoder.layer.{}.attention.output.LayerNorm": BLOCK + "attn_norm",
    "encoder.layer.{}.intermediate.dense": BLOCK + "mlp.up",
    "encoder.layer.{}.output.dense": BLOCK + "mlp.down",
    "encoder.layer.{}.output.LayerNorm": BLOCK + "mlp_norm",
}
TENSORFLOW_SPELLINGS = {r"\.gamma$": ".weight", r"\.beta$": ".bias"}
NO_POOLER = {"bert.pooler.dense": None, "cls.seq_relationship": None}


def pooler_head(keys: Table) -> Head:
    """The pooler, where a checkpoint has one: not all do, and a random one would be of no use.

    Args:
        keys: Foreign names of its weights.
    """
    return Head(
        lambda c: Pooler(c.hidden_size) if c.add_pooling_layer else None,
        keys,
        infer=lambda names, own_task: {"add_pooling_layer": any("pooler.dense" in name for name in names)},
    )


def mask_filling_head(keys: Table, activation: str | None = None) -> Head:
    """The mask filling head of BERT and its relatives, tied to the input embedding where the config says so.

    Args:
        keys: Foreign names of its weights.
        activation: A name in `ACTIVATIONS`; default: the config's `hidden_act`.
    """
    return Head(
        lambda c: MaskFillingHead(c.hidden_size, c.vocab_size, activation or c.hidden_act, c.layer_norm_eps),
        keys,
        tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
    )


@register_family(
    "bert",
    BertConfig,
    "BERT (Devlin et al., 2018)",
    keys=KEYS,
    prefix="bert.",
    spellings=TENSORFLOW_SPELLINGS,
    titles=("Bert",),
    heads={
        "backbone": pooler_head({"bert.pooler.dense": "head.dense", "cls.seq_relationship": None}),
        "text_embedding": pooler_head({"bert.pooler.dense": "head.dense", "cls.seq_relationship": None}),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, dropout=c.head_dropout),
            {"bert.pooler.dense": "head.dense", "classifier": "head.out"},
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.head_dropout),
            NO_POOLER | {"classifier": "head.out"},
        ),
        "mask_filling": mask_filling_head(
            NO_POOLER
            | {
                "cls.predictions.bias": "head.out.bias",
                "cls.predictions.transform.dense": "head.dense",
                "cls.predictions.transform.LayerNorm": "head.norm",
                "cls.predictions.decoder": "head.out",
            },
        ),
    },
)
class Bert(Backbone):
    """Post-norm encoder with learned positions and segment types."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.hidden_size, config.layer_norm_eps)
        self.max_tokens = config.max_position_embeddings
        self.embed = TextEmbedding(
            config.vocab_size,
            config.hidden_size,
            positions=config.max_position_embeddings,
            types=config.type_vocab_size,
            norm=norm(),
            dropout=config.hidden_dropout_prob,
            padding=config.pad_token_id,
        )
        self.stack = Stack([
            Block(
                Attention(
                    config.hidden_size, config.num_attention_heads, dropout=config.attention_probs_dropout_prob
                ),
                MLP(config.hidden_size, config.intermediate_size, config.hidden_act),
                norm,
                order="post",
                dropout=config.hidden_dropout_prob,
            )
            for _ in range(config.num_hidden_layers)
        ])  # fmt: skip
