"""Tasks whose head gives scores: one way from hidden states to logits and loss for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..outputs import BackboneOutput, ClassifierOutput
from .text import TextTask

__all__ = ["IGNORED", "ScoringTask", "token_loss"]

IGNORED = -100
"""The label of a token that has none."""


class ScoringTask(TextTask):
    """Base of text tasks with a head that scores labels or tokens."""

    def read_out(
        self, output: BackboneOutput, inputs: Mapping[str, Any], labels: Tensor | None, scored: Tensor | None = None
    ) -> ClassifierOutput:
        """Scores; see `TextTask.read_out`.

        Args:
            output: The backbone's.
            inputs: What it was given by name.
            labels: What the scores should say; then the output has a loss. See `compute_loss`.
            scored: Bool, [batch, length]: score only these tokens, in one row [count, width of the head].
        """
        states = self.states(output, inputs)
        assert self.head is not None
        logits = self.head(states if scored is None else states[scored])
        return ClassifierOutput.of(output, logits, None if labels is None else self.compute_loss(logits, labels))

    def infer(self, batch: Any, **options: Any) -> Any:
        """What the head scored is left out: nobody looks at it any more."""
        output = super().infer(batch, **options)
        output.last_hidden_state = None
        return output

    def states(self, output: BackboneOutput, inputs: Mapping[str, Any]) -> Tensor:
        """What the head scores, of the backbone's output."""
        return output.last_hidden_state

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of the tokens whose label is not -100, a scalar in float32.

        Args:
            logits: [batch, length, choices].
            labels: [batch, length] int64.
        """
        return token_loss(logits, labels)


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross entropy of what is not ignored, a scalar in float32; see `ScoringTask.compute_loss`."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED)
