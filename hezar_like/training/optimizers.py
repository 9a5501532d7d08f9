"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, Adam, Optimizer

from ..errors import ConfigError, did_you_mean
from .adamw import AdamW

__all__ = ["OPTIMIZERS", "build_optimizer", "parameter_groups"]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": Adam,
    "sgd": SGD,
    "adafactor": Adafactor,
}
OTHER_NAMES = {"sdg": "sgd"}
"""Hezar has it so."""
FUSED = ("adamw", "adam")
"""SGD has a fused form too, but not for shards of parameters."""
OF_TORCH = {"amsgrad", "foreach", "capturable", "differentiable"}
"""Options that the AdamW here does not have."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that are trained: matrices with weight decay, biases and weights of norms without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module,
    name: str = "adamw",
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    options: dict[str, Any] | None = None,
) -> Optimizer:
    """An optimizer for what of a model is trained.

    Args:
        model: The model.
        name: "adamw" or "adam", which are fused, "sgd" or "adafactor".
        learning_rate: The highest learning rate.
        weight_decay: Of matrices.
        options: More arguments of the optimizer's class in `torch.optim`, such as `betas`.

    Raises:
        ConfigError: For an unknown name or option, or when nothing is to be trained.
    """
    name = OTHER_NAMES.get(name, name)
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer is {name!r}, which is unknown.{did_you_mean(name, OPTIMIZERS)}")
    groups = parameter_groups(model, weight_decay)
    if not groups:
        raise ConfigError("no parameter of the model is to be trained. Set requires_grad of some.")
    given: dict[str, Any] = dict(options or {})
    if "betas" in given:
        given["betas"] = tuple(given["betas"])
    parameters = [parameter for group in groups for parameter in group["params"]]
    floating = all(torch.is_floating_point(parameter) for parameter in parameters)
    alike = len({hasattr(parameter, "full_tensor") for parameter in parameters}) == 1  # shards, or whole tensors
    create = OPTIMIZERS[name]
    if name in FUSED and floating and alike:
        given.setdefault("fused", True)
        if name == "adamw" and given["fused"] and not given.keys() & OF_TORCH and _are_whole(parameters):
            create = AdamW
    try:
        return create(groups, lr=learning_rate, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer_kwargs do not fit {name!r}: {error}") from None


def _are_whole(parameters: list[nn.Parameter]) -> bool:
    """Whether they are on the CPU, and no shards."""
    return all(p.device.type == "cpu" and type(p.data) is Tensor for p in parameters)
