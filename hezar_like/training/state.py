"""Where training is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

__all__ = ["TrainerState"]


@dataclass
class TrainerState:
    """How far training has come; saved with each checkpoint, with Hezar's names where it has them.

    Attributes:
        epoch: The present epoch, from 0.
        epoch_step: How many batches of it each process has used.
        global_step: How many optimizer steps are done.
        total_steps: How many there will be.
        tokens: How many tokens were read.
        loss_tracker_sum: Sum of the losses of what was counted since the last line of the log.
        loss_tracker_count: How much that was.
        best_metric_value: The best value of the metric that chooses.
        best_step: The step of the best checkpoint.
        worse_evaluations: How many evaluations came after it.
        stop: Set it to stop after this step.
    """

    epoch: int = 0
    epoch_step: int = 0
    global_step: int = 0
    total_steps: int = 0
    tokens: int = 0
    loss_tracker_sum: float = 0.0
    loss_tracker_count: float = 0.0
    best_metric_value: float | None = None
    best_step: int | None = None
    worse_evaluations: int = 0
    stop: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without `stop`."""
        return {key: value for key, value in asdict(self).items() if key != "stop"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The state that was saved."""
        known = {item.name for item in fields(cls)} - {"stop"}
        return cls(**{key: value for key, value in values.items() if key in known})
