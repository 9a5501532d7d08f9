"""PEFT's LoRA adapters (https://github.com/huggingface/peft), for a model as transformers has it.

    adapter_config.json  adapter_model.safetensors

A published layer that holds several of ours has one adapter for all: theirs stand below each other in `lora_A`, and in
`lora_B` each fills its own rows and columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import files
from ..errors import CheckpointError, OptionError
from ..keymap import KeyMap
from ..text_files import read_json
from .weights import open_weights, save_weights

__all__ = ["Adapter", "read_adapters", "write_adapters"]

WEIGHTS, CONFIG, PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."
FIXED = {"peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False}
"""Settings of which there is one value that is read."""


@dataclass(frozen=True)
class Adapter:
    """What is added to the weight of a linear layer: b a, times the scale.

    Attributes:
        a: [r, inputs].
        b: [outputs, r].
        scale: What both are multiplied with.
    """

    a: Tensor
    b: Tensor
    scale: float


def write_adapters(
    folder: Path,
    adapters: Mapping[str, Adapter],
    trained: Mapping[str, Tensor],
    keymap: KeyMap,
    *,
    dropout: float = 0.0,
    base: str | None = None,
) -> None:
    """Writes a folder.

    Args:
        folder: It.
        adapters: By the names of our layers.
        trained: Weights that were trained whole, by our names.
        keymap: The published names.
        dropout: What adapters were trained with.
        base: Name of the model they are for.

    Raises:
        OptionError: When a layer has no name in transformers, or is scaled there.
    """
    groups: dict[str, dict[int, Adapter]] = {}
    for name, adapter in adapters.items():
        foreign, part = _foreign(keymap, name)
        groups.setdefault(foreign, {})[part] = adapter
    stacks = {name: _stacked(parts, len(keymap.parts(f"{name}.weight") or [1])) for name, parts in groups.items()}
    tensors: dict[str, Tensor] = {}
    for name, one in stacks.items():
        tensors |= {f"{PREFIX}{name}.lora_A.weight": one.a, f"{PREFIX}{name}.lora_B.weight": one.b}
    first = next(iter(adapters.values()))
    r = len(first.a)
    # What is stacked in one layer there has a higher rank, and is scaled as each is here.
    odd = {name: one for name, one in stacks.items() if (len(one.a), one.scale) != (r, first.scale)}
    whole = dict(keymap.to_foreign(trained.items()))
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": r,
        "lora_alpha": first.scale * r,
        "lora_dropout": dropout,
        "rank_pattern": {name: len(one.a) for name, one in odd.items()},
        "alpha_pattern": {name: one.scale * len(one.a) for name, one in odd.items()},
        "fan_in_fan_out": any(part.stored.transposed for f in groups for part in keymap.parts(f"{f}.weight") or ()),
        "target_modules": sorted(groups),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole}) or None,
        "bias": "none",
        "inference_mode": True,
    }
    with files.stage(folder) as staged:
        save_weights(tensors | {PREFIX + name: tensor for name, tensor in whole.items()}, staged, WEIGHTS)
        staged(CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_adapters(folder: Path, keymap: KeyMap) -> tuple[dict[str, Adapter], dict[str, Tensor]]:
    """Reads a folder.

    Args:
        folder: It.
        keymap: The published names.

    Returns:
        Adapters by the names of our layers, and weights that were trained whole by our names.

    Raises:
        CheckpointError: When it has another kind of adapters, or those of another model.
    """
    settings = read_json(folder / CONFIG)
    for key, value in FIXED.items():
        if settings.get(key, value) != value:
            raise CheckpointError(f"{str(folder)!r}: {key} is {settings[key]!r}; only {value!r} can be read.")
    weights = open_weights([folder / WEIGHTS])
    halves: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for key in weights:
        name, _, half = key.removeprefix(PREFIX).rpartition(".lora_")
        if name:
            halves.setdefault(name, {})[half[0]] = weights[key]
            continue
        for part in keymap.parts(key.removeprefix(PREFIX)) or ():
            whole[part.name] = part.read(weights[key])
    found: dict[str, Adapter] = {}
    for foreign, pair in halves.items():
        parts = keymap.parts(f"{foreign}.weight")
        if not parts or len(pair) != 2 or any(part.scaled for part in parts):
            raise CheckpointError(f"{str(folder)!r}: has an adapter of {foreign!r}, which this model has not.")
        rank = len(pair["A"])
        alpha = _of_pattern(settings.get("alpha_pattern"), foreign, settings.get("lora_alpha", rank))
        for index, b in enumerate(pair["B"].chunk(len(parts))):
            used = b.abs().sum(0).nonzero()[:, 0] if len(parts) > 1 else torch.arange(rank)
            if len(used):
                name = parts[index].name.removesuffix(".weight")
                found[name] = Adapter(pair["A"][used], b[:, used], alpha / rank)
    if halves and not found:
        raise CheckpointError(f"{str(folder)!r}: its adapters are all zero, which says that nothing was trained.")
    return found, whole


def _foreign(keymap: KeyMap, name: str) -> tuple[str, int]:
    """The published module that holds a layer, and which part of it that is."""
    key = f"{name}.weight"
    try:
        foreign = keymap.foreign(key)
    except KeyError:
        raise OptionError(f"the layer {name!r} has no name in transformers, so its adapter cannot be saved.") from None
    part = next(part for part in keymap.parts(foreign) or () if part.name == key)
    if part.scaled:
        raise OptionError(f"the layer {name!r} is scaled in transformers, so its adapter cannot be saved.")
    return foreign.removesuffix(".weight"), part.index


def _stacked(parts: Mapping[int, Adapter], count: int) -> Adapter:
    """The adapter of a layer in which so many stand below each other."""
    adapters = [parts[index] for index in sorted(parts)]
    a, scale, height = torch.cat([adapter.a for adapter in adapters]), adapters[0].scale, len(adapters[0].b)
    b, column = a.new_zeros(height * count, len(a)), 0
    for index, adapter in zip(sorted(parts), adapters, strict=True):
        r = len(adapter.a)
        b[index * height : (index + 1) * height, column : column + r] = adapter.b * (adapter.scale / scale)
        column += r
    return Adapter(a, b, scale)


def _of_pattern(pattern: Any, name: str, default: float) -> float:
    """PEFT's rule: a key stands for the modules whose names end with it."""
    return next((value for key, value in (pattern or {}).items() if f".{name}".endswith(f".{key}")), default)
