"""Hidden states and pooled output of a family's backbone."""

from __future__ import annotations

from typing import Any, TypedDict

from torch import Tensor

from ..configs import ModelConfig
from ..outputs import BackboneOutput
from .task import register_task
from .text import TextBatch, TextTask, own_batch


class HiddenStates(TypedDict):
    """What one input gives.

    Attributes:
        last_hidden_state: [tokens, width].
        pooler_output: [width], or None where the family has no pooler.
        hidden_states: One [tokens, width] per block and the input of the first, when asked for.
        attentions: One [heads, tokens, tokens] per block, when asked for.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


@register_task(
    "backbone",
    ModelConfig,
    "hidden states",
    aliases=("feature_extraction",),
    endings=("Model",),
    pipeline_tag="feature-extraction",
)
class TextBackbone(TextTask):
    """A backbone by itself."""

    long_text_modes = ("truncate", "error")

    def forward(self, **inputs: Any) -> BackboneOutput:
        """Runs the backbone, whose `forward` says what it takes; the family's pooler, where it has one, comes after."""
        output: BackboneOutput = self.backbone(**inputs)
        if self.head is not None:
            output.pooler_output = self.head(output.last_hidden_state)
        return output

    def post_process(self, outputs: BackboneOutput, batch: TextBatch) -> list[HiddenStates]:  # type: ignore[override]
        """One record per input, without padding."""
        return [self._record(outputs, row, length) for row, (length,) in enumerate(own_batch(batch).lengths)]

    @staticmethod
    def _record(outputs: BackboneOutput, row: int, length: int) -> HiddenStates:
        states, attentions = outputs.hidden_states, outputs.attentions
        return {
            "last_hidden_state": outputs.last_hidden_state[row, :length],
            "pooler_output": None if outputs.pooler_output is None else outputs.pooler_output[row],
            "hidden_states": states and tuple(state[row, :length] for state in states),
            "attentions": attentions and tuple(weights[row, :, :length, :length] for weights in attentions),
        }
