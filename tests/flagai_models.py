"""FlagAI's own tiny models, and those of CPM-1 and CPM-2, with what their code computed."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures" / "flagai_modelcenter"
TOLERANCE = 2e-5
"""Of the largest difference, over the standard deviation of what is right."""


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """All inputs and outputs of a model's cases; do not change them."""
    return load_file(FIXTURES / name / "cases.safetensors")


def part(name: str, case: str, kind: str) -> dict[str, Tensor]:
    """The inputs (`in`) or outputs (`out`) of a case by their names."""
    prefix = f"{case}/{kind}/"
    return {key.removeprefix(prefix): tensor for key, tensor in tensors(name).items() if key.startswith(prefix)}


def weights(name: str) -> dict[str, Tensor]:
    """The weights of a model, under their original names and in their order."""
    (path,) = [p for p in (FIXTURES / name).iterdir() if p.name.startswith(("pytorch_model", "mp_rank"))]
    return dict(torch.load(path, weights_only=True))


def settings(name: str) -> dict[str, Any]:
    """The config.json of a model."""
    return dict(json.loads((FIXTURES / name / "config.json").read_text()))


def folder(path: Path, state: Any, values: dict[str, Any], filename: str = "pytorch_model.bin") -> Path:
    """Writes a checkpoint."""
    path.mkdir(parents=True, exist_ok=True)
    torch.save(state, path / filename)
    (path / "config.json").write_text(json.dumps(values))
    return path


def assert_close(ours: Tensor, theirs: Tensor, where: Tensor | None = None) -> None:
    """Equal up to rounding, where `where` is True."""
    assert ours.shape == theirs.shape
    if where is not None:
        ours, theirs = ours[where], theirs[where]
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.std()
