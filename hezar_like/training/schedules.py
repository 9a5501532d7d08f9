"""Learning rates over time: ModelCenter's schedules by its formulas, and Hezar's, which are torch's, by theirs."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ..errors import OptionError, did_you_mean

__all__ = ["ON_PLATEAU", "OTHER_NAMES", "SCHEDULES", "build_schedule", "check_schedule", "factor"]


def _constant(step: int, warmup: int, end: int, peak: float) -> float:
    return 1.0


def _linear(step: int, warmup: int, end: int, peak: float) -> float:
    return (end - step) / max(end - warmup, 1)


def _cosine(step: int, warmup: int, end: int, peak: float, eta_min: float = 0.0) -> float:
    lowest = eta_min / peak if peak else 0.0
    return lowest + (1 - lowest) * _falling((step - warmup) / max(end - warmup, 1))


def _exponential(step: int, warmup: int, end: int, peak: float, gamma: float = 0.95) -> float:
    return float(gamma ** (step - warmup))


def _noam(step: int, warmup: int, end: int, peak: float) -> float:
    return 1 / math.sqrt(max(step, 1))


def _polynomial(step: int, warmup: int, end: int, peak: float, power: float = 1.0, total_iters: int = 0) -> float:
    return float(max(0.0, 1 - (step - warmup) / max(total_iters or end - warmup, 1)) ** power)


def _step(step: int, warmup: int, end: int, peak: float, *, step_size: int, gamma: float = 0.1) -> float:
    return float(gamma ** ((step - warmup) // step_size))


def _multi_step(
    step: int, warmup: int, end: int, peak: float, *, milestones: Sequence[int], gamma: float = 0.1
) -> float:
    return float(gamma ** bisect_right(sorted(milestones), step - warmup))


def _one_cycle(
    step: int,
    warmup: int,
    end: int,
    peak: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    first, last = 1 / div_factor, 1 / div_factor / final_div_factor
    top = max(pct_start * (end - warmup) - 1, 1e-9)  # where the rate is highest
    step -= warmup
    if step <= top:
        return 1 - (1 - first) * _falling(step / top)
    return last + (1 - last) * _falling((step - top) / max(end - warmup - 1 - top, 1e-9))


def _cyclic(
    step: int,
    warmup: int,
    end: int,
    peak: float,
    base_lr: float = 0.0,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
) -> float:
    lowest, down = base_lr / peak if peak else 0.0, step_size_down or step_size_up
    place = (step - warmup) % (step_size_up + down)
    height = place / step_size_up if place <= step_size_up else 1 - (place - step_size_up) / down
    return lowest + (1 - lowest) * height


def _falling(place: float) -> float:
    """A half wave of the cosine, from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(place, 1.0)))


SCHEDULES: Mapping[str, Callable[..., float]] = {
    "constant": _constant, "linear": _linear, "cosine": _cosine, "exponential": _exponential, "noam": _noam,
    "polynomial": _polynomial, "step": _step, "multi_step": _multi_step, "one_cycle": _one_cycle, "cyclic": _cyclic,
}  # fmt: skip
"""What the learning rate is multiplied with after the warm-up, by step, steps of warm-up, last step, highest rate, and
options."""
ON_PLATEAU = "reduce_on_plateau"
"""What follows the evaluations, and no formula; its options are those of torch's class."""
OTHER_NAMES = {"cosine_annealing": "cosine", "cosine_anealing": "cosine", "no_decay": "constant"}
"""Hezar's and ModelCenter's names."""


def check_schedule(name: str, options: Mapping[str, Any]) -> str:
    """The usual name of a schedule, which takes such options.

    Raises:
        OptionError: For an unknown name or option, or without one that is needed.
    """
    name = OTHER_NAMES.get(name, name)
    known = [*SCHEDULES, ON_PLATEAU]
    if name not in known:
        hint = "For another one, give the Trainer lr_scheduler=, a scheduler of torch."
        raise OptionError(
            f"lr_scheduler is {name!r}, which is unknown.{did_you_mean(name, known)} Known: {', '.join(known)}. {hint}"
        )
    parameters = inspect.signature(ReduceLROnPlateau if name == ON_PLATEAU else SCHEDULES[name]).parameters
    own = list(parameters.values())[2 if name == ON_PLATEAU else 4 :]
    names = [parameter.name for parameter in own]
    odd = next((option for option in options if option not in names), None)
    if odd is not None:
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        raise OptionError(f"lr_scheduler {name!r} takes no {odd!r}: {takes}.")
    missing = [parameter.name for parameter in own if parameter.default is parameter.empty]
    lacking = next((option for option in missing if option not in options), None)
    if lacking is not None:
        raise OptionError(f"lr_scheduler {name!r} needs {lacking!r}. Give it in lr_scheduler_kwargs.")
    _check_values(name, options, {parameter.name: parameter.default for parameter in own})
    return name


def _check_values(name: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    for option, value in options.items():
        fits, wanted = RULES.get(option, (_is_number, "0 or more"))
        if not fits(value) and value is not defaults[option]:
            raise OptionError(f"lr_scheduler {name!r}: {option} is {value!r}; it must be {wanted}.")


def _is_number(value: Any, kind: Any = int | float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_step(value: Any) -> bool:
    return _is_number(value, int) and value > 0


def _each(fits: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(fits, value))


RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("step_size", "step_size_up", "step_size_down", "total_iters"), (_is_step, "a whole number above 0")
    ),
    **dict.fromkeys(("patience", "cooldown"), (partial(_is_number, kind=int), "a whole number, 0 or more")),
    **dict.fromkeys(("div_factor", "final_div_factor"), (lambda value: _is_number(value) and value > 0, "above 0")),
    "milestones": (partial(_each, _is_step), "whole numbers above 0, in a list"),
    "pct_start": (lambda value: _is_number(value) and 0 < value <= 1, "above 0, and at most 1"),
    "factor": (lambda value: _is_number(value) and value < 1, "0 or more, and below 1"),
    "min_lr": (lambda value: _is_number(value) or _each(_is_number, value), "0 or more"),
    "threshold_mode": (("rel", "abs").__contains__, "'rel' or 'abs'"),
}
"""What values of options must be, in code and in words; all others are numbers, 0 or more."""


def factor(name: str, step: int, *, warmup: int = 0, end: int = 0, peak: float = 1.0, **options: Any) -> float:
    """What the learning rate of a step is multiplied with.

    With t for the step, w for the warm-up, e for the end: t / w before w, and then: constant 1; linear
    (e - t) / (e - w); cosine (1 + cos(pi (t - w) / (e - w))) / 2; exponential gamma^(t - w); polynomial
    (1 - (t - w) / (e - w))^power. Noam is t / w^1.5 before w, and then 1 / sqrt(t) (Vaswani et al., 2017). step,
    multi_step, one_cycle and cyclic are those of `torch.optim.lr_scheduler`, of which momentum is left alone.

    Args:
        name: One of `SCHEDULES`.
        step: How many steps are done.
        warmup: Steps of warm-up.
        end: The step at which linear, cosine, polynomial and one_cycle end.
        peak: The highest learning rate, of which `eta_min` and `base_lr` are parts.
        **options: `gamma` of exponential (0.95), step and multi_step (0.1); `step_size` of step; `milestones` of
            multi_step; `power` (1) and `total_iters` of polynomial; `eta_min` of cosine (0); `pct_start` (0.3),
            `div_factor` (25) and `final_div_factor` (10,000) of one_cycle; `base_lr` (0), `step_size_up` (2,000) and
            `step_size_down` (as many) of cyclic.

    Raises:
        OptionError: For an unknown name or option.
    """
    name = check_schedule(name, options)
    if name == ON_PLATEAU:
        raise OptionError(f"lr_scheduler {name!r} follows evaluations, and has no formula. Use build_schedule.")
    return _at(SCHEDULES[name], warmup, end, peak, options, step)


def build_schedule(
    optimizer: Optimizer, name: str, *, warmup: int, end: int, mode: str = "min", **options: Any
) -> LambdaLR | ReduceLROnPlateau:
    """A scheduler of torch that follows `factor`; or, for `reduce_on_plateau`, torch's own.

    Args:
        optimizer: Whose learning rates, which are the highest.
        name: One of `SCHEDULES`, or `reduce_on_plateau`.
        warmup: Steps of warm-up; 0 for `reduce_on_plateau`, which has none.
        end: The step at which the schedule ends.
        mode: Of `reduce_on_plateau`: whether "min" or "max" of what is measured is better.
        **options: See `factor`, or those of `ReduceLROnPlateau`.

    Raises:
        OptionError: For an unknown name or option.
    """
    name = check_schedule(name, options)
    if name == ON_PLATEAU:
        if warmup:
            raise OptionError(f"lr_scheduler {name!r} has no warm-up, but warmup is {warmup}. Set it to 0.")
        try:
            plateau: Any = ReduceLROnPlateau
            return plateau(optimizer, mode=mode, **options)
        except (TypeError, ValueError) as error:
            raise OptionError(f"lr_scheduler {name!r}: {error}") from None
    formula = SCHEDULES[name]
    # An optimizer that was scheduled before begins anew with the rate it had then.
    peaks = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [partial(_at, formula, warmup, end, peak, options) for peak in peaks])


def _at(
    formula: Callable[..., float], warmup: int, end: int, peak: float, options: Mapping[str, Any], step: int
) -> float:
    if step < warmup:
        return step / warmup / (math.sqrt(warmup) if formula is _noam else 1)
    return max(0.0, formula(step, warmup, end, peak, **options))
