"""What a caller wants to see of a forward pass besides its result."""

from __future__ import annotations

from torch import Tensor


class Trace:
    """Collects intermediate tensors on their way.

    Args:
        hidden_states: Keep the input of the first block and the output of every block.
        attentions: Keep the attention probabilities of every block; this takes the slower, explicit attention.
    """

    def __init__(self, *, hidden_states: bool = False, attentions: bool = False) -> None:
        self.hidden_states: list[Tensor] | None = [] if hidden_states else None
        self.attentions: list[Tensor] | None = [] if attentions else None
