"""Sequence labeling in which each label depends on the one before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..layers import CRFHead
from .scoring import IGNORED
from .sequence_labeling import SequenceLabeling, SequenceLabelingConfig, at_places
from .task import register_task
from .text import TextBatch, TextInput, content_places

NEVER = -1e5
"""Added to the scores of labels that a token cannot have."""


@dataclass(kw_only=True)
class SequenceLabelingCRFConfig(SequenceLabelingConfig):
    """Sequence labeling with a conditional random field."""

    chain_special_tokens: bool = False
    """Whether the special tokens around a text are part of the chain of labels, which starts with the first label:
    then they had labels in training, as in FlagAI, and not -100."""


@register_task(
    "sequence_labeling_crf",
    SequenceLabelingCRFConfig,
    "labels for the tokens of texts, each with a view to the one before it",
    aliases=("token_classification_crf", "ner_crf"),
    pipeline_tag="token-classification",
)
class SequenceLabelingCRF(SequenceLabeling):
    """Labels tokens by the best chain of labels; the scores of records are the labels' own probabilities."""

    config: SequenceLabelingCRFConfig

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over texts of the negative log-likelihood of their chains of labels, a scalar.

        Args:
            logits: [batch, length, labels].
            labels: [batch, length] int64; tokens with -100 are not part of the chain.
        """
        assert isinstance(self.head, CRFHead)
        return self.head.crf.loss(logits, labels, labels != IGNORED).mean()

    def label_scores(self, logits: Tensor, batch: TextBatch) -> list[Tensor]:
        """As in `SequenceLabeling`, but only the labels of the best chain have a probability above zero."""
        assert isinstance(self.head, CRFHead)
        chains = [self._chain(item, logits[rows]) for item, rows in zip(batch.inputs, batch.rows, strict=True)]
        scores = pad_sequence([chain for chain, _ in chains], batch_first=True)
        lengths = torch.tensor([len(chain) for chain, _ in chains], device=scores.device)
        if not scores.size(1):
            return [chain.cpu() for chain, _ in chains]
        mask = torch.arange(scores.size(1), device=scores.device) < lengths[:, None]
        best, probabilities = self.head.crf.decode(scores, mask)
        probabilities = (probabilities * F.one_hot(best, probabilities.size(-1))).cpu()
        return [row[content] for row, (_, content) in zip(probabilities, chains, strict=True)]

    def _chain(self, item: TextInput, logits: Tensor) -> tuple[Tensor, slice]:
        """The scores of the tokens in an input's chain, [tokens, labels], and which of them are content."""
        content = at_places(logits, content_places(item))
        if not self.config.chain_special_tokens or not len(content):
            return content, slice(0, len(content))
        first, last = item.windows[0][1], item.windows[-1][1]
        before, after = logits[0, : first.content[0]], logits[-1, last.content[-1] + 1 : len(last)]
        chain = torch.cat((before, content, after))
        chain[0, 1:] += NEVER
        return chain, slice(len(before), len(before) + len(content))
