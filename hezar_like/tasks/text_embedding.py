"""One vector per text, and how similar two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import end_of
from ..configs import ModelConfig
from ..engine.packing import Reads
from ..errors import InputError
from ..outputs import BackboneOutput, EmbeddingOutput
from .task import register_task
from .text import TextBatch, TextTask, own_batch

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len"]


class Embedding(TypedDict):
    """The vector of one text: float32, [width]."""

    embedding: Tensor


@dataclass(kw_only=True)
class TextEmbeddingConfig(ModelConfig):
    """Text embedding (Reimers and Gurevych, 2019)."""

    pooling: Pooling = "mean"
    """How the tokens' vectors become one: mean, first token, maximum, or their sum over the root of their number."""
    normalize: bool = False
    """Whether vectors are scaled to length one."""
    similarity_function: Literal["cosine", "dot"] = "cosine"
    """What `similarity` computes."""


@register_task(
    "text_embedding",
    TextEmbeddingConfig,
    "vectors of texts",
    aliases=("embedding", "sentence_similarity"),
    endings=("Model",),
    pipeline_tag="sentence-similarity",
)
class TextEmbedding(TextTask):
    """Embeds texts; the windows of a long text are averaged by their number of tokens."""

    config: TextEmbeddingConfig

    @property
    def tokens_read(self) -> Reads:
        """Which tokens are pooled."""
        return "first" if self.config.pooling == "cls" else "all"

    def read_out(
        self, output: BackboneOutput, inputs: Mapping[str, Any], labels: Tensor | None = None
    ) -> EmbeddingOutput:
        """Pools the tokens that the attention mask, which must be [batch, length] here, does not call padding.

        Labels are how similar the texts of rows 0 and 1 should be, of rows 2 and 3, and so on, [batch / 2]; the loss is
        `cosent_loss`.
        """
        states = output.last_hidden_state
        embeddings = self._pool(states, self.backbone.given_mask(states, inputs))
        pairs: dict[str, Tensor] = {}
        if labels is not None:
            left, right = embeddings[0::2], embeddings[1::2]
            if not len(left) == len(right) == len(labels):
                raise InputError(f"there are {len(embeddings)} texts and {len(labels)} labels; a label is for two.")
            pairs = {"loss": cosent_loss(left, right, labels), "logits": F.cosine_similarity(left, right)}
        return EmbeddingOutput(
            **pairs,
            embeddings=F.normalize(embeddings, dim=-1) if self.config.normalize else embeddings,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def post_process(self, outputs: EmbeddingOutput, batch: TextBatch) -> list[Embedding]:  # type: ignore[override]
        """One vector per input."""
        vectors = outputs.embeddings.float().cpu()
        results: list[Embedding] = []
        for rows, lengths in zip(own_batch(batch).rows, batch.lengths, strict=True):
            weights = torch.tensor(lengths, dtype=torch.float32).clamp(min=1)
            vector = (vectors[rows] * (weights / weights.sum())[:, None]).sum(0)
            results.append({"embedding": F.normalize(vector, dim=-1) if self.config.normalize else vector})
        return results

    def embed(self, texts: Any, **options: Any) -> Tensor:
        """The vectors of texts as one matrix.

        Args:
            texts: One text or several.
            **options: See `predict`.

        Returns:
            Float32, [texts, width]; no rows for no texts.
        """
        vectors = [result["embedding"] for result in self.predict(texts, **options)]
        return torch.stack(vectors) if vectors else torch.zeros(0, self.config["hidden_size"])

    def similarity(self, left: Tensor | str | Sequence[str], right: Tensor | str | Sequence[str]) -> Tensor:
        """How similar texts are, each of `left` with each of `right`.

        Args:
            left: Vectors [n, width], or texts.
            right: Vectors [m, width], or texts.

        Returns:
            [n, m]; cosines are between -1 and 1.
        """
        a, b = (value if isinstance(value, Tensor) else self.embed(value) for value in (left, right))
        if self.config.similarity_function == "cosine":
            a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
        return a @ b.mT

    def _pool(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """[batch, length, width] to [batch, width]; padding does not count."""
        if self.config.pooling == "cls":
            return end_of(states, attention_mask, "first")
        mask = (torch.ones(states.shape[:2], device=states.device) if attention_mask is None else attention_mask)[
            ..., None
        ]
        if self.config.pooling == "max":
            return states.masked_fill(mask == 0, float("-inf")).amax(1).masked_fill(mask.amax(1) == 0, 0.0)
        mask = mask.to(states.dtype)
        count = mask.sum(1).clamp(min=1)
        return (states * mask).sum(1) / (count.sqrt() if self.config.pooling == "mean_sqrt_len" else count)


def cosent_loss(left: Tensor, right: Tensor, scores: Tensor, scale: float = 20.0) -> Tensor:
    """The order of the cosines of pairs should be that of their scores (Su, 2022: https://kexue.fm/archives/8847).

    log(1 + sum of exp(scale (cos_i - cos_j)) over all pairs i, j with score_i < score_j).

    Args:
        left: Vectors of the first texts, [pairs, width].
        right: Of the second ones, likewise.
        scores: How similar they should be, [pairs]; only their order counts.
        scale: What cosines are multiplied with.

    Returns:
        A scalar in float32; 0 where all scores are equal.
    """
    cosines = F.cosine_similarity(left.float(), right.float()) * scale
    wrong = cosines[:, None] - cosines[None, :]
    wrong = wrong[scores[:, None] < scores[None, :]]
    return torch.cat((wrong.new_zeros(1), wrong)).logsumexp(0)
