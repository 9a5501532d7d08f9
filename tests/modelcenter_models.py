"""ModelCenter's own tiny models, with what its code computed."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hezar_like import Model

FIXTURES = Path(__file__).parent / "fixtures" / "flagai_modelcenter"
NAMES = sorted(path.parent.name for path in FIXTURES.glob("*/meta.json") if '"ModelCenter"' in path.read_text())
CASES = [(name, case) for name in NAMES for case in json.loads((FIXTURES / name / "meta.json").read_text())["cases"]]


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """All inputs and outputs of a model's cases; do not change them."""
    return load_file(FIXTURES / name / "cases.safetensors")


def part(name: str, case: str, kind: str) -> dict[str, Tensor]:
    """The inputs (`in`) or outputs (`out`) of a case by their names."""
    prefix = f"{case}/{kind}/"
    return {key.removeprefix(prefix): tensor for key, tensor in tensors(name).items() if key.startswith(prefix)}


def inputs(name: str, case: str) -> dict[str, Tensor]:
    """The inputs of a case, without labels."""
    given = {key: tensor for key, tensor in part(name, case, "in").items() if key != "labels"}
    if case == "auto_positions":  # where ModelCenter counts on in a second piece; told so, we do too
        start = (given["input_ids"] == 106).long().argmax(1, keepdim=True)
        given["block_position_ids"] = (torch.arange(given["input_ids"].size(1)) - start + 1).clamp(min=0)
    return given


def load(name: str, case: str = "", **options: Any) -> Model:
    """The model, of the version that a case is of."""
    options.setdefault("format_version", "2022" if case.startswith("v2022") else "head")
    return Model.load(FIXTURES / name, device="cpu", **options)
