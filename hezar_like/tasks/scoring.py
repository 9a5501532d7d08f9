"""Tasks whose head gives scores: one forward for all of them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..outputs import ClassifierOutput
from .text import TextTask

__all__ = ["ScoringTask"]

IGNORED = -100
"""The label of a token that has none."""


class ScoringTask(TextTask):
    """Base of text tasks with a head that scores labels or tokens."""

    def forward(
        self,
        token_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        labels: Tensor | None = None,
        scored: Tensor | None = None,
    ) -> ClassifierOutput:
        """Scores.

        Args:
            token_ids: See `Backbone.forward`, as for the next four.
            attention_mask: 1 = look, 0 = padding.
            token_type_ids: Segment of each token.
            position_ids: Indices into the learned positions.
            inputs_embeds: Token vectors in place of `token_ids`.
            output_hidden_states: Also return the hidden states of every block.
            output_attentions: Also return the attention probabilities of every block.
            labels: What the scores should say; then the output has a loss. See `compute_loss`.
            scored: Bool, [batch, length]: score only these tokens, in one row [count, width of the head].
        """
        output = self.backbone(
            token_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        states = output.last_hidden_state
        assert self.head is not None
        logits = self.head(states if scored is None else states[scored])
        return ClassifierOutput(
            logits=logits,
            loss=None if labels is None else self.compute_loss(logits, labels),
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of the tokens whose label is not -100, a scalar.

        Args:
            logits: [batch, length, choices].
            labels: [batch, length] int64.
        """
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)
