"""What `forward` returns: typed, and a mapping."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from .layers import Cache

__all__ = ["BackboneOutput", "ClassifierOutput", "EmbeddingOutput", "GenerationOutput", "Output"]


class Output(Mapping[str, Any]):
    """Base of forward outputs: a dataclass whose fields can also be read as a mapping's; None counts as absent."""

    def __getitem__(self, key: str) -> Any:
        value = getattr(self, key, None) if isinstance(key, str) and key in self._names() else None
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names() if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        shown = [f"{name}={_shape(value)}" for name, value in self.items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]


@dataclass(eq=False, repr=False)
class BackboneOutput(Output):
    """Of a backbone. All but the first are None where they were not asked for or the family has none.

    Attributes:
        last_hidden_state: [batch, length, width]; of the decoder, where there is an encoder too.
        pooler_output: [batch, width].
        hidden_states: Input of the first block and output of each; the last one is normed where the family does so.
        attentions: Probabilities of each block, [batch, heads, length, length].
        past_key_values: What the next call of a decoder needs of this one.
        encoder_last_hidden_state: The encoder's output, [batch, length, width].
        encoder_hidden_states: As `hidden_states`, of the encoder.
        encoder_attentions: As `attentions`, of the encoder.
        cross_attentions: Probabilities of the decoder over the encoder's output.
        mems: Input of each block and the output of the last, to go on from (GLM).
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    past_key_values: Cache | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    mems: tuple[Tensor, ...] | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class ClassifierOutput(Output):
    """Of a head that scores labels or tokens.

    Attributes:
        loss: When labels were given.
        logits: Scores; the last dimension runs over the labels or the vocabulary.
        last_hidden_state: What the head scored; see `BackboneOutput`, as for all that follow.
        pooler_output: See there.
        hidden_states: See there.
        attentions: See there.
        past_key_values: See there.
        encoder_last_hidden_state: See there.
        encoder_hidden_states: See there.
        encoder_attentions: See there.
        cross_attentions: See there.
        mems: See there.
    """

    loss: Tensor | None = None
    logits: Tensor
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    past_key_values: Cache | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    mems: tuple[Tensor, ...] | None = None

    @classmethod
    def of(cls, output: BackboneOutput, logits: Tensor, loss: Tensor | None) -> Self:
        """Scores of what a backbone returned, with all that it returned."""
        return cls(logits=logits, loss=loss, **{name: getattr(output, name) for name in output})


@dataclass(eq=False, repr=False)
class EmbeddingOutput(Output):
    """Of a text embedding.

    Attributes:
        embeddings: [batch, width].
        loss: When labels were given.
        logits: The cosine of each pair, [pairs], when labels were given.
        hidden_states: See `BackboneOutput`.
        attentions: See `BackboneOutput`.
    """

    embeddings: Tensor
    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, repr=False)
class GenerationOutput(Output):
    """Of a generation. The sequences of an input are beside each other, the best first.

    Attributes:
        sequences: Tokens, [inputs * sequences, length] int64; see `generate`.
        lengths: Number of new ones, the end token included, [inputs * sequences] int64.
        ended: Whether the last of them is an end token, [inputs * sequences] bool.
        scores: The sum of their log-probabilities over their number to the power of `length_penalty`, [inputs *
            sequences] float32.
        token_scores: Log-probability of each new token, [inputs * sequences, new] float32; 0 after the end.
    """

    sequences: Tensor
    lengths: Tensor
    ended: Tensor
    scores: Tensor
    token_scores: Tensor


def _shape(value: Any) -> str:
    """What a value is, without the numbers in it."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({len(value)} x {_shape(value[0])})" if value else "()"
    return type(value).__name__
