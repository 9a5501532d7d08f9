"""LoRA: small matrices beside frozen weights (Hu et al., 2021: https://arxiv.org/abs/2106.09685), in PEFT's files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import paths
from ..errors import CheckpointError, ConfigError, OptionError, did_you_mean
from ..formats.peft import Adapter, read_adapters, write_adapters
from ..keymap import KeyMap
from ..loading import unique_tensors
from .config import LoRAConfig

__all__ = ["LoRAConfig", "LoRALinear", "add_lora", "load_adapter", "merge_lora", "save_adapter"]


class LoRALinear(nn.Linear):
    """A linear layer whose weight is frozen, with an adapter: y = x W + x A B alpha / r.

    Attributes:
        lora_a: [r, inputs].
        lora_b: [outputs, r], zeros at first.
        scale: What is multiplied with what the adapter adds.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scale: float
    dropout: float

    @classmethod
    def of(cls, layer: nn.Linear, r: int, alpha: float, dropout: float = 0.0) -> Self:
        """Makes one that shares a layer's weights."""
        own = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        own.weight, own.bias = layer.weight, layer.bias
        for parameter in layer.parameters():
            parameter.requires_grad_(False)
        options: Any = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        own.lora_a = nn.Parameter(torch.empty(r, layer.in_features, **options))
        own.lora_b = nn.Parameter(torch.zeros(layer.out_features, r, **options))
        nn.init.kaiming_uniform_(own.lora_a, a=5**0.5)
        own.scale, own.dropout = alpha / r, dropout
        own.train(layer.training)
        return own

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        low = F.linear(F.dropout(x, self.dropout, self.training) if self.dropout else x, self.lora_a)
        return super().forward(x) + F.linear(low, self.lora_b) * self.scale

    def merged(self) -> nn.Linear:
        """A common layer that computes the same; it shares what needs no change."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        added = (self.lora_b.float() @ self.lora_a.float()) * self.scale
        layer.weight = nn.Parameter((self.weight.detach().float() + added.detach()).to(self.weight.dtype))
        layer.bias = self.bias
        return layer.train(self.training)


def add_lora(model: Any, config: LoRAConfig | None = None, **kwargs: Any) -> list[str]:
    """Freezes a model's weights and gives layers adapters, which begin as nothing.

    Args:
        model: The model, changed in place.
        config: The settings.
        **kwargs: Fields of the config that win over it.

    Returns:
        Names of the layers with adapters.

    Raises:
        ConfigError: When no layer has such a name, or the model has adapters.
    """
    config = LoRAConfig.from_dict((config or LoRAConfig()).to_dict(), **kwargs)
    if any(isinstance(part, LoRALinear) for part in model.modules()):
        raise ConfigError("the model has adapters already. Call merge_lora first.")
    linears = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    chosen = [name for name in linears if any(f".{name}".endswith(f".{target}") for target in config.targets)]
    # A layer that is trained whole, such as the head, needs none.
    chosen = [name for name in chosen if not _begins(name, config.train)]
    if not chosen:
        known = {name.rpartition(".")[2] for name in linears}
        raise ConfigError(
            f"LoRAConfig.targets: no linear layer's name ends with {' or '.join(config.targets)}."
            f"{did_you_mean(config.targets[0] if config.targets else '', known)}"
        )
    tied = {id(parameter) for name, parameter in model.named_parameters() if not _begins(name, config.train)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(_begins(name, config.train) and id(parameter) not in tied)
    for name in chosen:
        _put(model, name, LoRALinear.of(linears[name], config.r, config.alpha, config.dropout))
    return chosen


def merge_lora(model: Any) -> None:
    """Adds the adapters to the weights, so that the model is a common one again, all of which can be trained."""
    for name, part in list(model.named_modules()):
        if isinstance(part, LoRALinear):
            _put(model, name, part.merged())
    model.requires_grad_(True)


def save_adapter(model: Any, path: str | os.PathLike[str]) -> Path:
    """Saves the adapters, and what was trained whole, as a folder that PEFT reads for the model in transformers.

    Args:
        model: A model with adapters.
        path: The folder.

    Raises:
        OptionError: When there are no adapters, or no names of transformers for them.
    """
    keymap, layers = _names(model), dict(_adapted(model))
    if not layers:
        raise OptionError("the model has no adapters to save. Call add_lora first, or model.save.")
    whole = {
        name: tensor
        for name, tensor in unique_tensors(model).items()
        if not name.endswith((".lora_a", ".lora_b")) and model.get_parameter(name).requires_grad
    }
    folder = paths.folder_at(path)
    write_adapters(
        folder,
        {name: Adapter(layer.lora_a.detach(), layer.lora_b.detach(), layer.scale) for name, layer in layers.items()},
        whole,
        keymap,
        dropout=next(iter(layers.values())).dropout,
        base=getattr(getattr(model, "source", None), "name", None),
    )
    return folder


def load_adapter(model: Any, path: str | os.PathLike[str]) -> list[str]:
    """Gives a model the adapters of a folder, ours or PEFT's.

    Args:
        model: The model they were trained on; adapters it has are replaced.
        path: The folder.

    Returns:
        Names of the layers with adapters.

    Raises:
        CheckpointError: When the folder is of another model, or of another kind of adapter.
    """
    folder = paths.existing_folder(path)
    own = unique_tensors(model)
    adapters, whole = read_adapters(folder, _names(model))
    found = {name: _with(model, name, adapter, folder) for name, adapter in adapters.items()}
    odd = [name for name in whole if name not in own or own[name].shape != whole[name].shape]
    if odd or not found:
        raise CheckpointError(f"{str(folder)!r}: is of another model; {min(odd, default='no adapter')!r} does not fit.")
    model.requires_grad_(False)
    for name, layer in found.items():
        _put(model, name, layer)
    with torch.no_grad():
        for name, tensor in whole.items():
            own[name].copy_(tensor)
    for name in whole:
        model.get_parameter(name).requires_grad_(True)
    return sorted(found)


def _with(model: Any, name: str, adapter: Adapter, folder: Path) -> LoRALinear:
    """A layer of a model with an adapter."""
    layer, r = model.get_submodule(name), len(adapter.a)
    if adapter.a.shape[1] != layer.in_features or adapter.b.shape[0] != layer.out_features:
        raise CheckpointError(f"{str(folder)!r}: the adapter of {name!r} has another size. It is of another model.")
    own = LoRALinear.of(layer, r, adapter.scale * r)
    with torch.no_grad():
        own.lora_a.copy_(adapter.a)
        own.lora_b.copy_(adapter.b)
    return own


def _names(model: Any) -> KeyMap:
    """What transformers calls the weights of a model; where it has no names for them, our own stay."""
    family = getattr(model, "family", None)
    if family is None or not family.keys:
        return KeyMap({name: name for name in unique_tensors(model)})
    keymap: KeyMap = family.keymap(model.config, model.task)
    return keymap


def _adapted(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    return ((name, part) for name, part in model.named_modules() if isinstance(part, LoRALinear))


def _begins(name: str, starts: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{start}.") for start in starts)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)
