"""A checkpoint of one task as the start of another: the backbone is kept, and a head where both tasks have one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from comparing import assert_same_tensors
from tiny_models import is_exportable, tiny_model

from hezar_like import Model
from hezar_like.registry import families_registry, models_registry, tasks_registry

HEADS = {
    family: [task for task in families_registry[family].module_class.heads if task in tasks_registry]
    for family in families_registry
}
CASES = [
    (family, own, other, layout)
    for family, tasks in HEADS.items()
    for own in tasks
    for layout in ("native", "transformers")
    if layout == "native" or is_exportable(tiny_model(models_registry.compose(family, own).name))
    for other in tasks
    if own != other
]


@pytest.mark.parametrize(("family", "own", "other", "layout"), CASES)
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
    if model.family.same_head(own, other):
        assert_same_tensors(again.state_dict(), model.state_dict())
        assert not caplog.records
        return
    own_weights = {key for key in again.state_dict() if key.startswith("head.out.")} - set(again.tied)
    assert "new and random" in caplog.text or not own_weights
    assert [key for key in own_weights if key not in caplog.text] == []
    old = model.state_dict()
    for key in own_weights:
        tensor = again.state_dict()[key]
        assert key not in old or tensor.shape != old[key].shape or not torch.equal(tensor, old[key]), key
