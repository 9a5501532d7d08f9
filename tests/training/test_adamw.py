"""AdamW in fewer passes: torch's numbers, with gradients by row and clipping in the same pass."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trained import classification, language, model, trainer, without_dropout

from hezar_like.layers.embeddings import TokenVectors
from hezar_like.training import adamw
from hezar_like.training.adamw import AdamW, gradients_by_row
from hezar_like.training.optimizers import build_optimizer
from hezar_like.training.parallel import clip_gradients


def steps(kind: Any, most: float, options: dict[str, Any]) -> tuple[list[Tensor], list[float]]:
    """Five steps of a tiny model; gradients are by row where the optimizer is ours."""
    torch.manual_seed(0)
    own = nn.Sequential(TokenVectors(50, 8, padding=0), nn.Linear(8, 3))
    optimizer = kind(own.parameters(), lr=0.1, fused=True, **options)
    norms = []
    for number in range(5):
        tokens = torch.randint(0, 50, (4, 6), generator=torch.Generator().manual_seed(number))
        with gradients_by_row(own if kind is AdamW else nn.Module()):
            own(tokens).square().sum().backward()
            assert own[0].weight.grad.is_sparse == (kind is AdamW)
        norms.append(clip_gradients(optimizer, most, later=kind is AdamW))
        optimizer.step()
        optimizer.zero_grad()
    states = [value for p in own.parameters() for value in optimizer.state[p].values()]
    return [*(p.detach() for p in own.parameters()), *states], norms


@pytest.mark.parametrize("numbers", [8, 56, 2**20])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-4, "maximize": True}])
def test_numbers_are_those_of_torch(monkeypatch: pytest.MonkeyPatch, numbers: int, options: dict[str, Any]) -> None:
    monkeypatch.setattr(adamw, "NUMBERS", numbers)
    (found, _), (expected, _) = steps(AdamW, math.inf, options), steps(torch.optim.AdamW, math.inf, options)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clipping_in_the_step_is_clipping(most: float) -> None:
    (found, norms), (expected, others) = steps(AdamW, most, {}), steps(torch.optim.AdamW, most, {})
    assert norms == pytest.approx(others, rel=1e-5)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_an_empty_gradient_is_one_of_zeros() -> None:
    own = TokenVectors(10, 4)
    before, optimizer = own.weight.detach().clone(), AdamW(own.parameters(), lr=0.1, weight_decay=0.5)
    own.weight.grad = torch.zeros(10, 4).to_sparse(1)
    assert clip_gradients(optimizer, 1.0, later=True) == 0
    optimizer.step()
    assert torch.allclose(own.weight, before * 0.95)


def test_what_is_used_twice_has_whole_gradients() -> None:
    with gradients_by_row(own := model("bert_mask_filling")):
        assert not own.backbone.embed.tokens.sparse
    with gradients_by_row(own := model()):
        assert own.backbone.embed.tokens.sparse
    assert not own.backbone.embed.tokens.sparse


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bert_text_classification", classification(12)),
        ("bert_mask_filling", language("masked", 12)),
        ("gpt2_text_generation", language("causal", 12)),
    ],
)
def test_training_is_that_of_torchs_optimizer(tmp_path: Path, name: str, data: Any) -> None:
    found = []
    options = {"eps": 1e-3}  # so that the sign of a gradient that is nothing but rounding does not count
    for kind in (AdamW, torch.optim.AdamW):
        own = without_dropout(model(name))
        fields = {"max_steps": 6, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5}
        run = trainer(tmp_path / kind.__module__, own, data, **fields)
        run._given = build_optimizer(own, learning_rate=1e-3, options=options), None
        assert type(run._given[0]) is AdamW
        if kind is not AdamW:
            run._given = torch.optim.AdamW(own.parameters(), lr=1e-3, weight_decay=0.0, fused=True, **options), None
        run.train()
        found.append(own.state_dict())
    for key, value in found[0].items():
        assert torch.allclose(value, found[1][key], atol=2e-6), key


@pytest.mark.parametrize("options", [{"amsgrad": True}, {"foreach": True, "fused": False}])
def test_other_settings_are_torchs(options: dict[str, Any]) -> None:
    assert type(build_optimizer(model(), learning_rate=0.1, options=options)) is torch.optim.AdamW
