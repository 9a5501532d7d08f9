"""CPM-2 as ModelCenter has it: https://github.com/OpenBMB/ModelCenter.

The one its authors published (Zhang et al., 2021: https://arxiv.org/abs/2106.10715) is a T5 v1.1; this one scales its
scores, and its gelu is the exact one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..family import register_family
from ..fields import Between, Layers, Probability, Size, TokenId, Vocabulary
from .t5 import HEADS, T5, T5Config, initialize, keys


@dataclass(kw_only=True)
class CPM2Config(T5Config):
    """ModelCenter's CPM-2: a T5 with other defaults."""

    name = "cpm2"
    vocab_size: Vocabulary = 26240
    hidden_size: Size = 768
    num_hidden_layers: Layers = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 1920
    dropout_rate: Probability = 0.0
    feed_forward_proj: str = "gated-gelu_python"
    """The MLPs' activation, see `T5Config`; in "gelu_python", transformers' name for it, gelu is the exact one."""
    attention_scale: Annotated[float, Between(0, 1)] | None = None
    tie_word_embeddings: bool = False
    blind_padding: bool = True
    pad_token_id: TokenId | None = 5
    eos_token_id: TokenId | None = 7
    decoder_start_token_id: TokenId = 1


@register_family(
    "cpm2",
    CPM2Config,
    "CPM-2 as ModelCenter has it (Zhang et al., 2021)",
    keys=keys,
    model_types=(),
    published=lambda c: False,
    initialize=initialize,
    heads=HEADS,
)
class CPM2(T5):
    """A T5 whose inputs may have ModelCenter's names."""

    input_names = {
        "enc_input": "token_ids",
        "enc_length": "length",
        "dec_input": "decoder_input_ids",
        "dec_length": "decoder_length",
    }
