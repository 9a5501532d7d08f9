"""What `forward` returns: typed, and a mapping."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["BackboneOutput", "ClassifierOutput", "EmbeddingOutput", "Output"]


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
    """Of a backbone.

    Attributes:
        last_hidden_state: [batch, length, width].
        pooler_output: [batch, width]; only of families that have a pooler.
        hidden_states: Input of the first block and output of each, when asked for.
        attentions: Probabilities of each block, [batch, heads, length, length], when asked for.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, repr=False)
class ClassifierOutput(Output):
    """Of a head that scores labels or tokens.

    Attributes:
        logits: Scores; the last dimension runs over the labels or the vocabulary.
        loss: When labels were given.
        hidden_states: See `BackboneOutput`.
        attentions: See `BackboneOutput`.
    """

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, repr=False)
class EmbeddingOutput(Output):
    """Of a text embedding.

    Attributes:
        embeddings: [batch, width].
        hidden_states: See `BackboneOutput`.
        attentions: See `BackboneOutput`.
    """

    embeddings: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def _shape(value: Any) -> str:
    """What a value is, without the numbers in it."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({len(value)} x {_shape(value[0])})" if value else "()"
    return type(value).__name__
