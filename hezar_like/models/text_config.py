"""What the configs of text families share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..configs import ModelConfig
from ..errors import ConfigError
from ..fields import Deviation, Layers, OneOf, Probability, Size, TokenId, Vocabulary
from ..layers import ACTIVATIONS

__all__ = ["TextConfig"]


@dataclass(kw_only=True)
class TextConfig(ModelConfig):
    """What the configs of families that read texts share; defaults are BERT's."""

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
    """Number of positions: the longest input in tokens."""
    initializer_range: Deviation = 0.02
    """Standard deviation of random weights."""
    pad_token_id: TokenId | None = 0
    """The padding token."""
    mask_padding_tokens: bool = False
    """Whether the padding token is padding wherever it stands when no attention mask is given, as in FlagAI."""
    tie_word_embeddings: bool = True
    """Whether the head that scores tokens does so with the input embedding."""

    @property
    def padding_token(self) -> int | None:
        """The token that is padding where no attention mask says so; None: none is."""
        return self.pad_token_id if self.mask_padding_tokens else None

    def check(self) -> None:
        super().check()
        if self.mask_padding_tokens and self.pad_token_id is None:
            raise ConfigError(f"{type(self).__name__}: mask_padding_tokens needs a pad_token_id. Give one.")
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
