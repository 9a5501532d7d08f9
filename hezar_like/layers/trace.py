"""What a caller wants to see of a forward pass besides its result."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Trace:
    """Collects intermediate tensors on their way.

    Args:
        hidden_states: Keep the input of the first block and the output of every block.
        attentions: Keep the attention probabilities of every block; this takes the slower, explicit attention.
        mems: Keep what `hidden_states` does, but the output of the last block before its norm.
    """

    def __init__(self, *, hidden_states: bool = False, attentions: bool = False, mems: bool = False) -> None:
        self.hidden_states: list[Tensor] | None = [] if hidden_states else None
        self.mems: list[Tensor] | None = [] if mems else None
        self.attentions: list[Tensor] | None = [] if attentions else None
        self.cross_attentions: list[Tensor] | None = [] if attentions else None

    def keep(self, x: Tensor) -> None:
        """Keeps the input of the first block, or the output of one, [batch, length, width], where that is wanted."""
        for states in (self.hidden_states, self.mems):
            if states is not None:
                states.append(x)

    def found(self) -> dict[str, Any]:
        """What was collected, by name; None for what was not asked for, or there is none of."""
        return {
            name: None if kept is None or (not kept and name == "cross_attentions") else tuple(kept)
            for name, kept in vars(self).items()
        }
