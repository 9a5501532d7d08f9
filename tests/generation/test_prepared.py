"""Stacks that run as plain operations: what they are not made of, when they are made anew, and that nothing differs."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_tensors, difference
from tiny_models import built_in, inputs_for, tiny_model
from torch import nn

from hezar_like import Model
from hezar_like.backbones import EncoderDecoder
from hezar_like.blocks import Stack
from hezar_like.engine.prepared import prepared
from hezar_like.registry import models_registry

GENERATIVE = [
    name for name in built_in() if models_registry[name].module_class.task == "text_generation" and "bert" not in name
]
TOLERANCE = 2e-6


def stack_of(model: Model) -> Stack:
    backbone = model.backbone
    return backbone.decoder if isinstance(backbone, EncoderDecoder) else backbone.stack


def stepped(model: Model, run: Any) -> list[torch.Tensor]:
    """Hidden states of a text read in steps, with padding."""
    inputs = inputs_for(model)
    if model.backbone.blanks is not None:
        inputs["token_ids"][:, 2] = model.backbone.blanks.suffix
    states = []
    with torch.no_grad():
        writer = model.backbone.writer(inputs)
        piece = next(writer.pieces())
        writer.accelerate(lambda stack: run)
        states.append(writer.step(piece.tokens))
        for count in (1, 1, 3):
            states.append(writer.step(torch.full((len(piece.tokens), count), 30)))
        writer.expand(2)
        states.append(writer.step(torch.full((2 * len(piece.tokens), 1), 31)))
    return states


@pytest.mark.parametrize("name", GENERATIVE)
def test_the_same_comes_out(name: str) -> None:
    model = tiny_model(name)
    with torch.no_grad():
        run = prepared(stack_of(model))
    assert run is not None
    expected = stepped(model, None)
    for ours, theirs in zip(stepped(model, run), expected, strict=True):
        assert difference(ours, theirs) <= TOLERANCE * max(1.0, theirs.std().item())


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("gpt2_text_generation")
    monkeypatch.setattr("hezar_like.blocks.Block.forward", None)
    assert model.generate(**inputs_for(model), max_new_tokens=3).size(1) == 9


def noted(called: list[str], forward: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    called.append("forward")
    return forward(*args, **kwargs)


def test_what_somebody_put_in_runs() -> None:
    called = []
    for change in ("hook", "layer", "forward", "block", "global"):
        model = tiny_model("gpt2_text_generation")
        stack, handle = stack_of(model), None
        if change == "hook":
            stack.blocks[1].mlp.up.register_forward_hook(lambda *_: called.append("hook"))
        elif change == "layer":

            class Noted(nn.Linear):
                def forward(self, x: torch.Tensor) -> torch.Tensor:
                    called.append("layer")
                    return super().forward(x)

            stack.blocks[0].attn.q.__class__ = Noted
        elif change == "forward":
            attention = stack.blocks[0].attn
            attention.forward = partial(noted, called, attention.forward)
        elif change == "block":

            class Own(type(stack.blocks[0])):  # type: ignore[misc]
                def forward(self, *args: Any) -> torch.Tensor:
                    called.append("block")
                    return super().forward(*args)

            stack.blocks[0].__class__ = Own
        else:
            handle = nn.modules.module.register_module_forward_hook(lambda *_: called.append("global"))
        try:
            model.generate(**inputs_for(model), max_new_tokens=2)
        finally:
            if handle is not None:
                handle.remove()
        assert change in called
    model = tiny_model("gpt2_text_generation").train()
    with torch.no_grad():
        assert prepared(stack_of(model)) is None
    assert prepared(stack_of(model.eval())) is None  # gradients may be wanted


def test_other_weights_count_at_once(tmp_path: Path) -> None:
    model, other = tiny_model("llama_text_generation"), tiny_model("llama_text_generation")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = inputs_for(model)

    def written(model: Model) -> list[Any]:
        return model.generate(**batch, max_new_tokens=8).tolist()

    first, expected = written(model), written(other)
    assert first != expected
    model.load_state_dict(other.state_dict())
    assert written(model) == expected
    model.load_state_dict({name: tensor.clone() for name, tensor in other.state_dict().items()}, assign=True)
    assert written(model) == expected
    half = written(other.to(torch.bfloat16))
    assert written(model.to(torch.bfloat16)) == half


def test_the_model_stays_what_it_was(tmp_path: Path) -> None:
    """Weights laid beside each other are trained, copied and saved like others."""
    model = tiny_model("gpt2_text_generation")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        model.predict(["the cat"], max_new_tokens=2)
    assert_same_tensors(model.state_dict(), state)
    model.save(tmp_path / "native")
    model.export("transformers", tmp_path / "transformers")
    for folder in ("native", "transformers"):
        assert_same_tensors(Model.load(tmp_path / folder, device="cpu").state_dict(), state)
    twin = copy.deepcopy(model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = inputs_for(model)
    model(**batch, labels=batch["token_ids"]).loss.backward()
    optimizer.step()
    model.eval()
    changed = model.state_dict()
    assert not torch.equal(changed["backbone.stack.blocks.0.attn.q.weight"], state["backbone.stack.blocks.0.attn.q.weight"])
    assert_same_tensors(twin.state_dict(), state)
    for one in (model, twin):
        fresh = tiny_model("gpt2_text_generation")
        fresh.load_state_dict(one.state_dict())
        assert one.generate(**batch, max_new_tokens=6).tolist() == fresh.generate(**batch, max_new_tokens=6).tolist()
