"""Learning rates over time, by the formulas of ModelCenter's schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import OptionError, did_you_mean

__all__ = ["SCHEDULES", "build_schedule", "factor"]


def _constant(step: int, warmup: int, end: int, gamma: float) -> float:
    return 1.0


def _linear(step: int, warmup: int, end: int, gamma: float) -> float:
    return (end - step) / max(end - warmup, 1)


def _cosine(step: int, warmup: int, end: int, gamma: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(end - warmup, 1), 1.0)))


def _exponential(step: int, warmup: int, end: int, gamma: float) -> float:
    return gamma ** (step - warmup)


def _noam(step: int, warmup: int, end: int, gamma: float) -> float:
    return 1 / math.sqrt(max(step, 1))


SCHEDULES: dict[str, Callable[[int, int, int, float], float]] = {
    "constant": _constant, "linear": _linear, "cosine": _cosine, "exponential": _exponential, "noam": _noam,
}  # fmt: skip
"""What the learning rate is multiplied with after the warm-up, by step, steps of warm-up, last step and gamma."""

OTHER_NAMES = {"cosine_annealing": "cosine", "cosine_anealing": "cosine", "no_decay": "constant"}
"""Hezar's and ModelCenter's names."""


def factor(name: str, step: int, *, warmup: int = 0, end: int = 0, gamma: float = 0.95) -> float:
    """What the learning rate of a step is multiplied with.

    With t for the step, w for the warm-up, e for the end: t / w before w, and then: constant 1; linear
    (e - t) / (e - w); cosine (1 + cos(pi (t - w) / (e - w))) / 2; exponential gamma^(t - w). Noam is t / w^1.5 before
    w, and then 1 / sqrt(t) (Vaswani et al., 2017).

    Args:
        name: One of `SCHEDULES`.
        step: How many steps are done.
        warmup: Steps of warm-up.
        end: The step at which linear and cosine are zero.
        gamma: Of the exponential schedule.

    Raises:
        OptionError: For an unknown name.
    """
    name = OTHER_NAMES.get(name, name)
    if name not in SCHEDULES:
        hint = "For another one, give the Trainer lr_scheduler=, a scheduler of torch."
        raise OptionError(f"lr_scheduler is {name!r}, which is unknown.{did_you_mean(name, SCHEDULES)} {hint}")
    if step < warmup:
        return step / warmup / (math.sqrt(warmup) if name == "noam" else 1)
    return max(0.0, SCHEDULES[name](step, warmup, end, gamma))


def build_schedule(optimizer: Optimizer, name: str, *, warmup: int, end: int, gamma: float = 0.95) -> LambdaLR:
    """A scheduler of torch that follows `factor`."""
    return LambdaLR(optimizer, partial(_at, name, warmup, end, gamma))


def _at(name: str, warmup: int, end: int, gamma: float, step: int) -> float:
    return factor(name, step, warmup=warmup, end=end, gamma=gamma)
