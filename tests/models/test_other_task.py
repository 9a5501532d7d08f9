"""A checkpoint of one task as the start of another: the backbone is kept, no head is taken for another's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.registry import families_registry, models_registry

PAIRS = [
    (family, own, other)
    for family in families_registry
    for own in families_registry[family].module_class.heads
    for other in families_registry[family].module_class.heads
    if own != other
]


@pytest.mark.parametrize("layout", ["native", "transformers"])
@pytest.mark.parametrize(("family", "own", "other"), PAIRS)
def test_backbone_stays_and_head_is_its_own(
    family: str, own: str, other: str, layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = models_registry.compose(family, own).name
    model = tiny_model(name)
    model.save(tmp_path) if layout == "native" else model.export("transformers", tmp_path)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hezar_like"):
        again = Model.load(tmp_path, task=other)
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(again.backbone.state_dict()[key], tensor), key
    last = getattr(again.head, "out", None)
    if last is not None:
        assert "new and random" in caplog.text and "head.out.bias" in caplog.text
        old = getattr(model.head, "out", None)
        tied = other == "mask_filling"
        same = old is not None and old.weight.shape == last.weight.shape and torch.equal(old.weight, last.weight)
        assert tied or not same
