"""RoBERTa (Liu et al., 2019) and XLM-R (Conneau et al., 2019): BERT whose positions count from `pad_token_id + 1`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Epsilon, Size, TokenId, Vocabulary
from ..layers import ClassificationHead, TokenHead
from .bert import (
    OWN,
    TENSORFLOW_SPELLINGS,
    Bert,
    BertConfig,
    answering_head,
    crf_head,
    global_pointer_head,
    keys,
    mask_filling_head,
    pooler_head,
)


@dataclass(kw_only=True)
class RobertaConfig(BertConfig):
    """A RoBERTa or XLM-R encoder."""

    name = "roberta"
    vocab_size: Vocabulary = 50265
    max_position_embeddings: Size = 514
    """Number of learned positions: the longest input in tokens, plus `pad_token_id + 1`."""
    type_vocab_size: Size = 1
    layer_norm_eps: Epsilon = 1e-5
    pad_token_id: TokenId = 1
    """The padding token; positions count from the one after it."""
    bos_token_id: TokenId | None = 0
    """The token every input starts with."""
    eos_token_id: TokenId | None = 2
    """The token every input ends with."""
    count_padding: bool = False
    """Whether padding takes up positions too, as in ModelCenter."""
    dense_token_head: bool = False
    """Whether the sequence labeling head has a dense layer and tanh before the labels, as Hezar's has."""

    def check(self) -> None:
        super().check()
        if self.max_position_embeddings <= self.pad_token_id + 1:
            raise ConfigError(
                f"{type(self).__name__}: max_position_embeddings={self.max_position_embeddings} leaves no position "
                f"after pad_token_id={self.pad_token_id}. Make it larger."
            )


MASK_FILLING = mask_filling_head(
    {
        "lm_head.bias": "head.out.bias",
        "lm_head.dense": "head.dense",
        "lm_head.layer_norm": "head.norm",
        "lm_head.decoder": "head.out",
    },
    activation="gelu",
)


@register_family(
    "roberta",
    RobertaConfig,
    "RoBERTa (Liu et al., 2019), XLM-R (Conneau et al., 2019)",
    aliases=("xlm_roberta",),
    model_types=("roberta", "xlm-roberta", "camembert"),
    keys=keys,
    prefix="roberta.",
    spellings=TENSORFLOW_SPELLINGS,
    titles=("Roberta", "XLMRoberta", "Camembert"),
    own=(*OWN, "count_padding"),
    heads={
        "backbone": pooler_head("roberta."),
        "text_embedding": pooler_head("roberta."),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, dropout=c.head_dropout, dropout_first=True),
            {"classifier.dense": "head.dense", "classifier.out_proj": "head.out"},
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(
                c.hidden_size, c.num_labels, dropout=c.head_dropout, dense=c.dense_token_head, bias=c.classifier_bias
            ),
            {"classifier": "head.out", "classifier.dense": "head.dense", "classifier.out_proj": "head.out"},
            infer=lambda keys, own_task: {"dense_token_head": own_task and "classifier.dense.weight" in keys},
            published=lambda c: c.classifier_bias and not c.dense_token_head,
        ),
        "sequence_labeling_crf": crf_head(),
        "sequence_labeling_global_pointer": global_pointer_head(),
        "mask_filling": MASK_FILLING,
        "cloze": MASK_FILLING,
        "text_generation": answering_head(MASK_FILLING),
        "multiple_choice": Head(
            lambda c: ClassificationHead(c.hidden_size, 1, dropout=c.head_dropout),
            {"roberta.pooler.dense": "head.dense", "classifier": "head.out"},
            published=lambda c: not c.keep_pooler,
        ),
    },
)
class Roberta(Bert):
    """BERT with RoBERTa's positions."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.padding, self.count_padding = config.pad_token_id, config.count_padding
        self.max_tokens = config.max_position_embeddings - config.pad_token_id - 1

    def positions(self, tokens: Tensor) -> Tensor:
        if self.count_padding or tokens.is_floating_point():
            return super().positions(tokens) + self.padding + 1
        real = tokens.ne(self.padding).long()
        return real.cumsum(1) * real + self.padding
