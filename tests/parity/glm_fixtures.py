"""What the original GLM computes, and our models of the same files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from hezar_like import Model

FOLDER = Path(__file__).parents[1] / "fixtures" / "flagai_modelcenter"
# Of every tiny checkpoint; FlagAI keeps them in the code of its tokenizers.
COMMANDS = {
    "pad_token_id": 100, "eos_token_id": 100, "sop_token_id": 106, "eop_token_id": 107, "mask_token_id": 103,
    "smask_token_id": 108, "gmask_token_id": 109,
}  # fmt: skip
TOLERANCE = 2e-5


@cache
def tensors(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / name / "cases.safetensors")


def cases(name: str) -> list[str]:
    return list(json.loads((FOLDER / name / "meta.json").read_text())["cases"])


def inputs(name: str, case: str, *names: str) -> dict[str, Tensor]:
    """Inputs of a case by name; all of them where none are named."""
    start = f"{case}/in/"
    found = {key.removeprefix(start): tensor for key, tensor in tensors(name).items() if key.startswith(start)}
    return {key: found[key] for key in names} if names else found


def output(name: str, case: str, what: str = "logits") -> Tensor:
    return tensors(name)[f"{case}/out/{what}"]


def model(name: str, **options: Any) -> Model:
    return Model.load(FOLDER / name, device="cpu", **options)


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in standard deviations of what it should be."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return ((ours - theirs).abs().max() / theirs.std()).item()
