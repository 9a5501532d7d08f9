"""Attention of texts of any lengths in one kernel, which is torch's on a GPU and written out here."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparing import difference
from tiny_models import text_models, tiny_model
from torch import Tensor
from varlen_kernel import Kernel

from hezar_like import Model
from hezar_like.engine import flash
from hezar_like.engine.packing import Reads, reading_only
from hezar_like.engine.running import accelerated
from hezar_like.registry import models_registry

FAMILIES = [name for name in text_models() if models_registry[name].module_class.task == "backbone"]
NOT_AT_ONCE = {"t5", "cpm1", "cpm2", "gemma2", "glm"}
"""Biases of positions, or a limit to scores, of which the kernel knows nothing; and who is not packed."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(flash, "_kernel_for", lambda query: made)
    torch.manual_seed(0)
    return made


def batch() -> dict[str, Tensor]:
    """Rows of many lengths, one of a single token."""
    present = torch.arange(40) < torch.tensor([23, 5, 40, 1, 16, 17])[:, None]
    return {"token_ids": torch.randint(10, 100, present.shape) * present, "attention_mask": present.long()}


def of_eights(name: str) -> Model:
    """A tiny model with as many channels as the kernel takes, and windows shorter than the texts."""
    own = models_registry[name].config_class.fields()
    return tiny_model(name, **{key: value for key, value in {"head_dim": 16, "sliding_window": 9}.items() if key in own})


@torch.no_grad()
@pytest.mark.parametrize("reads", ["all", "first", "last"])
@pytest.mark.parametrize("name", FAMILIES)
def test_reading_is_the_same(name: str, reads: Reads, kernel: Kernel) -> None:
    model, inputs = of_eights(name), batch()
    present = inputs["attention_mask"].bool()
    plain = model(**inputs).last_hidden_state
    with accelerated(model), reading_only(reads):
        found = model(**inputs).last_hidden_state
    if reads != "all":
        read = present.sum(1) - 1 if reads == "last" else torch.zeros(len(present), dtype=torch.int64)
        present = F.one_hot(read, present.size(1)).bool()
    assert difference(found[present], plain[present]) <= 2e-5 * max(1.0, plain.std().item())
    assert bool(kernel.calls) == (name not in NOT_AT_ONCE)


def test_only_gpus_have_it() -> None:
    assert flash._kernel_for(torch.zeros(2, 2, 8, dtype=torch.bfloat16)) is None


@torch.no_grad()
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_gpu_reads_the_same(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = of_eights(name), batch()
    present = inputs["attention_mask"].bool()
    plain = model(**inputs).last_hidden_state[present]
    model = model.to("cuda", torch.bfloat16)
    with accelerated(model):
        found = model(**{key: value.cuda() for key, value in inputs.items()}).last_hidden_state
    assert (found.float().cpu()[present] - plain).std() <= 0.05 * plain.std()
