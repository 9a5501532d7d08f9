"""BERT (Devlin et al., 2018): https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Tensor, nn

from ..backbones import Backbone
from ..blocks import Block, Stack
from ..family import Head, register_family
from ..fields import Epsilon, Probability, Size
from ..keymap import Table
from ..layers import (
    MLP,
    Attention,
    ClassificationHead,
    CRFHead,
    GlobalPointerHead,
    LanguageModelHead,
    MaskFillingHead,
    Pooler,
    TextEmbedding,
    TokenHead,
)
from .text_config import TextConfig


@dataclass(kw_only=True)
class BertConfig(TextConfig):
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
    keep_pooler: bool = False
    """Whether the pooler is part of the backbone and its output returned by all tasks, as in ModelCenter."""
    prediction_head_transform: bool = True
    """Whether the mask filling head transforms hidden states before it scores tokens; else it only scores."""
    blind_padding: bool = False
    """Whether padding looks at nothing, as in ModelCenter; it tells only in what comes out at the padding."""
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
OWN = ("keep_pooler", "prediction_head_transform", "blind_padding", "mask_padding_tokens")
TENSORFLOW_SPELLINGS = {r"\.gamma$": ".weight", r"\.beta$": ".bias"}
NEXT_SENTENCE: Table = {"cls.seq_relationship": None}


def keys(config: BertConfig) -> Table:
    """The names of transformers; most tasks leave the pooler out."""
    return KEYS | {"pooler.dense": "backbone.pooler.dense" if config.keep_pooler else None}


def pooler_head(prefix: str, dropped: Table | None = None) -> Head:
    """The pooler, where a checkpoint has one: not all do, and a random one would be of no use.

    Args:
        prefix: What the foreign names of the backbone begin with.
        dropped: Foreign names of heads that are left out.
    """
    return Head(
        lambda c: Pooler(c.hidden_size) if c.add_pooling_layer and not c.keep_pooler else None,
        lambda c: {**(dropped or {}), **({} if c.keep_pooler else {f"{prefix}pooler.dense": "head.dense"})},
        infer=lambda names, own_task: {"add_pooling_layer": any("pooler.dense" in name for name in names)},
    )


def mask_filling_head(keys: Table, activation: str | None = None) -> Head:
    """The mask filling head of BERT and its relatives, tied to the input embedding where the config says so.

    Args:
        keys: Foreign names of its weights.
        activation: A name in `ACTIVATIONS`; default: the config's `hidden_act`.
    """
    return Head(
        lambda c: (
            MaskFillingHead(c.hidden_size, c.vocab_size, activation or c.hidden_act, c.layer_norm_eps)
            if c.prediction_head_transform
            else LanguageModelHead(c.hidden_size, c.vocab_size)
        ),
        keys,
        tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
        published=lambda c: c.prediction_head_transform,
    )


def answering_head(mask_filling: Head) -> Head:
    """A mask filling head, for writing texts (UniLM): there is no such model in transformers."""
    return replace(mask_filling, endings=())


def crf_head(dropped: Table | None = None) -> Head:
    """Scores for labels and for labels beside each other; `dropped` are foreign names of heads that are left out."""
    return Head(
        lambda c: CRFHead(c.hidden_size, c.num_labels, dropout=c.head_dropout, bias=c.classifier_bias), dropped or {}
    )


def global_pointer_head(dropped: Table | None = None) -> Head:
    """Scores for labels of spans; `dropped` are foreign names of heads that are left out."""
    return Head(
        lambda c: GlobalPointerHead(c.hidden_size, c.num_labels, c.inner_dim, dropout=c.head_dropout), dropped or {}
    )


MASK_FILLING = mask_filling_head(
    {
        **NEXT_SENTENCE,
        "cls.predictions.bias": "head.out.bias",
        "cls.predictions.transform.dense": "head.dense",
        "cls.predictions.transform.LayerNorm": "head.norm",
        "cls.predictions.decoder": "head.out",
    },
)


@register_family(
    "bert",
    BertConfig,
    "BERT (Devlin et al., 2018)",
    keys=keys,
    prefix="bert.",
    spellings=TENSORFLOW_SPELLINGS,
    titles=("Bert",),
    own=OWN,
    heads={
        "backbone": pooler_head("bert.", NEXT_SENTENCE),
        "text_embedding": pooler_head("bert.", NEXT_SENTENCE),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, dropout=c.head_dropout),
            {"bert.pooler.dense": "head.dense", "classifier": "head.out"},
            published=lambda c: not c.keep_pooler,
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.head_dropout, bias=c.classifier_bias),
            {**NEXT_SENTENCE, "classifier": "head.out"},
            published=lambda c: c.classifier_bias,
        ),
        "sequence_labeling_crf": crf_head(NEXT_SENTENCE),
        "sequence_labeling_global_pointer": global_pointer_head(NEXT_SENTENCE),
        "mask_filling": MASK_FILLING,
        "cloze": MASK_FILLING,
        "text_generation": answering_head(MASK_FILLING),
        "multiple_choice": Head(
            lambda c: ClassificationHead(c.hidden_size, 1, dropout=c.head_dropout),
            {"bert.pooler.dense": "head.dense", "classifier": "head.out"},
            published=lambda c: not c.keep_pooler,
        ),
    },
)
class Bert(Backbone):
    """Post-norm encoder with learned positions and segment types."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.hidden_size, config.layer_norm_eps)
        self.blind_padding = config.blind_padding
        self.max_tokens = config.max_position_embeddings
        self.token_types = config.type_vocab_size
        self.padding_token = config.padding_token
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
        self.pooler = Pooler(config.hidden_size) if config.keep_pooler else None

    def pooled(self, states: Tensor) -> Tensor | None:
        return None if self.pooler is None else self.pooler(states)
