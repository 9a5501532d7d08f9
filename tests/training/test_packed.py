"""Packed rows in training: the loss and the gradients of the padded batch, for every model that reads them."""

from __future__ import annotations

import pytest
import torch
from tiny_models import text_models
from trained import classification, language, model, tagging, trainer, without_dropout

from hezar_like.errors import ConfigError
from hezar_like.registry import models_registry
from hezar_like.training.batches import PackedRowsCollator
from hezar_like.training.step import TrainingStep, counted, why_not_packed

KINDS = {
    "text_classification": classification,
    "sequence_labeling": tagging,
    "mask_filling": lambda count: language("masked", count),
    "text_generation": lambda count: language("causal", count),
}
NAMES = [name for name in text_models() if models_registry[name].module_class.task in KINDS]
PACKABLE = [name for name in NAMES if why_not_packed(model(name)) is None]


def test_most_families_are_packed() -> None:
    families = {name.partition("_")[0] for name in PACKABLE}
    assert families >= {"bert", "roberta", "distilbert", "gpt2", "llama", "cpm1"}
    for name in ("t5_text_generation", "bert_text_generation", "bert_sequence_labeling_crf"):
        assert why_not_packed(model(name)) is not None


@pytest.mark.parametrize("name", PACKABLE)
def test_packed_is_padded(name: str) -> None:
    task = models_registry[name].module_class.task
    data = KINDS[task](7)
    if hasattr(data, "set_epoch"):
        data.set_epoch(1)
    samples = [data[i] for i in range(7)]
    own = without_dropout(model(name)).train()
    step = TrainingStep(own)
    found = []
    for collator in (data.data_collator, PackedRowsCollator(0)):
        batch = collator(samples)
        own.zero_grad()
        loss = step(batch)["loss"]
        loss.backward()
        grads = {key: p.grad.clone() for key, p in own.named_parameters() if p.grad is not None}
        found.append((loss.detach(), grads, counted(own, batch), batch["token_ids"].numel()))
    padded, packed = found
    assert torch.allclose(padded[0], packed[0], atol=1e-5)
    assert padded[1].keys() == packed[1].keys()
    for key, grad in padded[1].items():
        assert (grad - packed[1][key]).abs().max() <= 1e-5 * max(1.0, float(grad.abs().max())), key
    assert padded[2] == packed[2]


def test_rows_are_as_long_as_they_must() -> None:
    long = {"token_ids": list(range(1, 200)), "labels": 1}
    short = {"token_ids": [1, 2, 3], "labels": 0}
    assert PackedRowsCollator(0)([short] * 10)["token_ids"].shape == (1, 30)
    assert PackedRowsCollator(0)([long, *[short] * 10])["token_ids"].shape == (2, 199)


def test_what_cannot_be_packed_is_refused(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be trained packed: a decoder that looks at"):
        trainer(folder, model("t5_text_generation"), language("causal"), packed=True)
