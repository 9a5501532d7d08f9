"""How far apart two results are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hezar_like import ModelConfig

SAME_WEIGHTS = 0.0 if torch.cpu._is_avx512_supported() else 1e-6
"""How far results of the same weights may be apart: with AVX2, how MKL adds depends on where in memory they lie."""


def difference(ours: Any, theirs: Any, where: str = "result") -> float:
    """The largest difference between two numbers anywhere in two results of the same structure.

    Raises:
        AssertionError: When structure, shapes, or anything but numbers differ.
    """
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        assert ours.shape == theirs.shape, f"{where}: {tuple(ours.shape)} and {tuple(theirs.shape)}"
        return (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        assert set(ours) == set(theirs), where
        return max((difference(ours[key], theirs[key], f"{where}[{key!r}]") for key in ours), default=0.0)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        pairs = enumerate(zip(ours, theirs, strict=True))
        return max((difference(a, b, f"{where}[{i}]") for i, (a, b) in pairs), default=0.0)
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs)
    assert ours == theirs and type(ours) is type(theirs), f"{where}: {ours!r} and {theirs!r}"
    return 0.0


def assert_same_tensors(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """The same names, types, shapes and bytes."""
    assert set(ours) == set(theirs), sorted(set(ours) ^ set(theirs))
    for name, tensor in ours.items():
        other = theirs[name]
        assert tensor.dtype == other.dtype and tensor.shape == other.shape, name
        assert torch.equal(tensor.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)), name


def assert_same_config(ours: ModelConfig, theirs: ModelConfig) -> None:
    """The same class and fields."""
    assert type(ours) is type(theirs)
    assert ours.to_dict() == theirs.to_dict()


def assert_same_predictions(ours: Any, theirs: Any) -> None:
    """The same, but for the last digits of numbers where `SAME_WEIGHTS` lets them differ."""
    assert difference(ours, theirs) <= SAME_WEIGHTS


@torch.no_grad()
def perturb(model: nn.Module, seed: int = 0) -> None:
    """Random values for every parameter, so that no norm and no bias is trivial; norms stay near one."""
    torch.manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            norm = parameter.ndim == 1 and name == "weight"
            parameter.copy_(norm + (0.1 if norm else 0.2) * torch.randn_like(parameter))
