"""DistilBERT (Sanh et al., 2019): https://arxiv.org/abs/1910.01108. BERT without segment types and pooler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..family import Head, register_family
from ..fields import Layers, Probability
from ..layers import ClassificationHead, TokenHead
from .bert import BLOCK, Bert, mask_filling_head
from .text_config import TextConfig


@dataclass(kw_only=True)
class DistilBertConfig(TextConfig):
    """A DistilBERT encoder."""

    name = "distilbert"
    aliases = {
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    }
    type_vocab_size: ClassVar[int] = 0
    layer_norm_eps: ClassVar[float] = 1e-12
    keep_pooler: ClassVar[bool] = False
    blind_padding: ClassVar[bool] = False
    prediction_head_transform: ClassVar[bool] = True

    num_hidden_layers: Layers = 6
    """Number of blocks."""
    seq_classif_dropout: Probability = 0.2
    """Dropout before the last layer of the classification head."""


MASK_FILLING = mask_filling_head(
    {"vocab_transform": "head.dense", "vocab_layer_norm": "head.norm", "vocab_projector": "head.out"},
)


@register_family(
    "distilbert",
    DistilBertConfig,
    "DistilBERT (Sanh et al., 2019)",
    prefix="distilbert.",
    keys={
        "embeddings.word_embeddings": "backbone.embed.tokens",
        "embeddings.position_embeddings": "backbone.embed.positions",
        "embeddings.LayerNorm": "backbone.embed.norm",
        "embeddings.position_ids": None,
        "transformer.layer.{}.attention.q_lin": BLOCK + "attn.q",
        "transformer.layer.{}.attention.k_lin": BLOCK + "attn.k",
        "transformer.layer.{}.attention.v_lin": BLOCK + "attn.v",
        "transformer.layer.{}.attention.out_lin": BLOCK + "attn.out",
        "transformer.layer.{}.sa_layer_norm": BLOCK + "attn_norm",
        "transformer.layer.{}.ffn.lin1": BLOCK + "mlp.up",
        "transformer.layer.{}.ffn.lin2": BLOCK + "mlp.down",
        "transformer.layer.{}.output_layer_norm": BLOCK + "mlp_norm",
    },
    titles=("DistilBert",),
    own=("mask_padding_tokens",),
    heads={
        "backbone": Head(),
        "text_embedding": Head(),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, activation="relu", dropout=c.seq_classif_dropout),
            {"pre_classifier": "head.dense", "classifier": "head.out"},
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.hidden_dropout_prob, bias=c.classifier_bias),
            {"classifier": "head.out"},
            published=lambda c: c.classifier_bias,
        ),
        "mask_filling": MASK_FILLING,
        "cloze": MASK_FILLING,
        "multiple_choice": Head(
            lambda c: ClassificationHead(c.hidden_size, 1, activation="relu", dropout=c.seq_classif_dropout),
            {"pre_classifier": "head.dense", "classifier": "head.out"},
        ),
    },
)
class DistilBert(Bert):
    """BERT without segment types."""
