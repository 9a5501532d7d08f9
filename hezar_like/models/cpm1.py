"""CPM-1 as ModelCenter has it: https://github.com/OpenBMB/ModelCenter.

It is another model than the one its authors published (Zhang et al., 2020: https://arxiv.org/abs/2012.00413), which is
a GPT-2 here: positions are relative, MLPs are gated, and what stands before and after a gap may be read both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from ..backbones import Decoder, Writer
from ..backbones.base import check_covers, tokens_of
from ..backbones.hole_writer import HoleWriter
from ..blocks import Block, Context, Stack
from ..configs import ModelConfig
from ..errors import ConfigError
from ..family import Head, register_family
from ..fields import Between, Deviation, Epsilon, Layers, OneOf, Probability, Size, TokenId, Vocabulary
from ..layers import (
    ACTIVATIONS,
    MLP,
    Attention,
    Cache,
    ClassificationHead,
    LanguageModelHead,
    RelativeBias,
    RMSNorm,
    TextEmbedding,
    TokenHead,
    Trace,
)
from ..outputs import BackboneOutput


@dataclass(kw_only=True)
class CPM1Config(ModelConfig):
    """ModelCenter's CPM-1."""

    name = "cpm1"
    vocab_size: Vocabulary = 30968
    """Number of tokens."""
    hidden_size: Size = 768
    """Size of the hidden states."""
    num_hidden_layers: Layers = 12
    """Number of blocks."""
    num_attention_heads: Size = 12
    """Number of attention heads."""
    head_dim: Size | None = None
    """Channels of each attention head; None: `hidden_size / num_attention_heads`."""
    intermediate_size: Size = 1920
    """Size between the layers of each MLP."""
    hidden_act: Annotated[str, OneOf(ACTIVATIONS)] = "gelu"
    """Activation of the MLPs' gates."""
    relative_attention_num_buckets: Annotated[int, Between(4, 2**20)] = 32
    """Number of buckets of relative positions, for earlier and later tokens together."""
    relative_attention_max_distance: Size = 128
    """From where on all distances share the last bucket."""
    attention_scale: Annotated[float, Between(0, 1)] | None = None
    """What attention scores are multiplied with; None: one over the root of `head_dim`."""
    hidden_dropout_prob: Probability = 0.0
    """Dropout on what each layer adds, while training."""
    attention_probs_dropout_prob: Probability = 0.0
    """Dropout on attention probabilities, while training."""
    classifier_dropout: Probability = 0.0
    """Dropout of the heads that label, while training."""
    rms_norm_eps: Epsilon = 1e-6
    """Added to the mean square in every norm."""
    initializer_range: Deviation = 0.02
    """Standard deviation of random weights."""
    tie_word_embeddings: bool = True
    """Whether tokens are scored with the input embedding."""
    pad_token_id: TokenId | None = 0
    """The padding token."""
    eos_token_id: TokenId | None = 4
    """The token that ends what is written."""

    def check(self) -> None:
        super().check()
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{type(self).__name__}: hidden_size={self.hidden_size} is not divisible by "
                f"num_attention_heads={self.num_attention_heads}. Change one of them, or give head_dim."
            )
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 4:
            raise ConfigError(
                f"{type(self).__name__}: relative_attention_max_distance={self.relative_attention_max_distance} must "
                f"be more than a quarter of relative_attention_num_buckets={self.relative_attention_num_buckets}. "
                "Change one of them."
            )


@register_family(
    "cpm1",
    CPM1Config,
    "CPM-1 as ModelCenter has it (Zhang et al., 2020)",
    keys={},
    model_types=(),
    heads={
        "text_generation": Head(
            lambda c: LanguageModelHead(c.hidden_size, c.vocab_size),
            tied=lambda c: {"head.out.weight": "backbone.embed.tokens.weight"} if c.tie_word_embeddings else {},
        ),
        "backbone": Head(),
        "text_embedding": Head(),
        "text_classification": Head(
            lambda c: ClassificationHead(c.hidden_size, c.num_labels, activation=None, dropout=c.classifier_dropout)
        ),
        "sequence_labeling": Head(
            lambda c: TokenHead(c.hidden_size, c.num_labels, dropout=c.classifier_dropout, bias=c.classifier_bias)
        ),
    },
)
class CPM1(Decoder):
    """Pre-norm decoder without biases, with bucketed relative positions, that reads context both ways."""

    input_names = {"input": "token_ids"}

    def __init__(self, config: CPM1Config) -> None:
        super().__init__()
        width = config.hidden_size
        norm = partial(RMSNorm, width, config.rms_norm_eps)
        self.embed = TextEmbedding(config.vocab_size, width)
        blocks = [
            Block(
                Attention(
                    width,
                    config.num_attention_heads,
                    head_dim=config.head_dim,
                    bias=False,
                    scale=config.attention_scale,
                    dropout=config.attention_probs_dropout_prob,
                ),
                MLP(width, config.intermediate_size, config.hidden_act, gated=True, bias=False),
                norm,
                dropout=config.hidden_dropout_prob,
            )
            for _ in range(config.num_hidden_layers)
        ]
        bias = RelativeBias(
            config.num_attention_heads,
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        )
        self.stack = Stack(blocks, norm(), bias)

    def writer(self, inputs: Mapping[str, Any]) -> Writer:
        """See `BackboneBase.writer`; with `context`, what is written goes into the hole in it, or behind it."""
        return super().writer(inputs) if inputs.get("context") is None else HoleWriter(self, inputs)

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        length: Tensor | None = None,
        context: Tensor | None = None,
        span: Tensor | None = None,
        head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone.

        Args:
            token_ids: [batch, length] int64; with `past_key_values` only the new tokens.
            attention_mask: 1 = look, 0 = padding; [batch, length] of the new tokens, or of earlier ones too; or for
                these with up to four dimensions. With `context`, padding also sees nothing.
            position_ids: The position of each token, [batch or 1, length] int64, with earlier tokens; only distances
                matter. Default: counted from the first column.
            inputs_embeds: Token vectors [batch, length, width] in place of `token_ids`.
            length: Number of tokens of each row, [batch] int64, in place of `attention_mask`.
            context: Bool, [batch or 1, length], with earlier tokens: what is given. All tokens see it, also what of it
                comes later; the others, which are to be written, are seen only by each other, and only by later ones.
                Without it, every token sees itself and earlier ones.
            span: The number of the text each token is of, where a row holds several: [batch or 1, length] int64, with
                earlier tokens. A text sees only itself.
            head_mask: What the output of each head is multiplied with, [blocks, heads].
            past_key_values: Of the call before; it is added to.
            use_cache: Return `past_key_values` for the next call.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.

        Raises:
            ValueError: When not exactly one of `token_ids` and `inputs_embeds` is given, or `position_ids`, `context`,
                `span` or the mask is not for all tokens.
        """
        tokens = tokens_of(token_ids, inputs_embeds, "token_ids and inputs_embeds")
        cache = Cache(len(self.stack.blocks)) if use_cache and past_key_values is None else past_key_values
        past = 0 if cache is None else cache.length
        attention_mask = self.attention_mask(tokens, attention_mask, length)
        if cache is not None:
            attention_mask = cache.whole_mask(attention_mask, tokens.size(1))
        given = {"attention_mask": attention_mask, "position_ids": position_ids, "context": context, "span": span}
        for name, tensor in given.items():
            check_covers(tensor, past + tokens.size(1), name)
        look = self.look(attention_mask)
        if context is not None:
            look = _both(look, _look_at_context(context.bool(), past))
            if attention_mask is not None and attention_mask.ndim == 2:
                look = _both(look, attention_mask.bool()[:, None, past:, None])
        if span is not None:
            look = _both(look, span[:, None, past:, None] == span[:, None, None, :])
        assert self.stack.bias is not None
        shared = Context(
            mask=look,
            causal=context is None,
            bias=None if position_ids is None else self.stack.bias.between(position_ids[:, past:], position_ids),
            cache=cache,
            head_mask=head_mask,
            trace=Trace(hidden_states=output_hidden_states, attentions=output_attentions),
        )
        x = self.stack(self.embed(tokens), shared)
        return BackboneOutput(last_hidden_state=x, past_key_values=cache, **shared.trace.found())


def _look_at_context(context: Tensor, past: int) -> Tensor:
    """Who sees whom: context is seen by all, the rest by the later ones of the rest; the queries begin at `past`."""
    total = context.size(1)
    earlier = torch.ones(total - past, total, dtype=torch.bool, device=context.device).tril(past)
    return context[:, None, None, :] | (~context[:, None, past:, None] & earlier)


def _both(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first & second
