"""Models whose blocks run through torch.compile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comparing import assert_same_tensors, difference
from tiny_models import TEXTS, inputs_for, prompts_for, tiny_model

from hezar_like import Model
from hezar_like.blocks import Block
from hezar_like.engine.compiling import compile_blocks
from hezar_like.errors import OptionError


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many graphs were compiled, by a compiler that changes nothing."""
    graphs: list[int] = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(len(inputs))
        return graph

    torch._dynamo.reset()
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, backend, **options: compile_(f, backend=compiler, **options))
    return graphs


@torch.no_grad()
def test_results_are_the_same(counted: list[int], tmp_path: Path) -> None:
    for name in ("bert_text_classification", "gpt2_text_generation"):
        model = tiny_model(name)
        expected = model.predict(TEXTS[:3], **({"max_new_tokens": 5} if model.is_generative else {"top_k": None}))
        written = model.generate(**prompts_for(model), max_new_tokens=5) if model.is_generative else None
        model.save(tmp_path / name)
        compiled = Model.load(tmp_path / name, device="cpu", compile=True)
        before = len(counted)
        found = compiled.predict(TEXTS[:3], **({"max_new_tokens": 5} if model.is_generative else {"top_k": None}))
        assert len(counted) > before
        if written is not None:
            assert found == expected and torch.equal(compiled.generate(**prompts_for(model), max_new_tokens=5), written)
        else:
            pairs = [(a["score"], b["score"]) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True)]
            assert difference(*map(torch.tensor, zip(*pairs, strict=True))) <= 1e-6
        compiled.save(tmp_path / "again")
        assert_same_tensors(Model.load(tmp_path / "again", device="cpu").state_dict(), model.state_dict())


def test_blocks_of_one_kind_share_what_was_compiled(counted: list[int]) -> None:
    model = tiny_model("bert_text_classification", num_hidden_layers=5)
    compile_blocks(model, True)
    with torch.no_grad():
        model(**inputs_for(model))
    assert len(counted) <= 2  # the first block makes what all see of each other


def test_modes(counted: list[int]) -> None:
    model = tiny_model("bert_text_classification")
    for wrong in ("max-autotun", "", 1, None):
        with pytest.raises(OptionError, match="compile is .* it must be True, False or one of"):
            compile_blocks(model, wrong)  # type: ignore[arg-type]
    compile_blocks(model, False)
    assert not any(part._compiled_call_impl for part in model.modules())
    compile_blocks(model, "default")
    assert all((part._compiled_call_impl is not None) == isinstance(part, Block) for part in model.modules())
