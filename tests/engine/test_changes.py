"""What the engine keeps between calls is given up when a model is another, and caches go from one way to the other."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import TEXTS, inputs_for, prompts_for, tiny_model
from torch import Tensor, nn

from hezar_like import Model
from hezar_like.engine import copies, running
from hezar_like.engine.linears import projection
from hezar_like.engine.running import accelerated
from hezar_like.engine.stacks import prepared
from hezar_like.layers import Rotary


def written(model: Model, text: str = TEXTS[0]) -> Any:
    return model.predict(text, progress=False, max_new_tokens=6)


def step_by_step(model: Model) -> Tensor:
    cache, found = None, []
    for token in inputs_for(model)["token_ids"][:1].T:
        output = model(token_ids=token[None], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        found.append(output.logits)
    return torch.cat(found, 1)


def test_what_is_changed_between_calls_counts() -> None:
    """Programs are kept between calls as long as nobody changed what they were made of."""
    model = tiny_model("llama_text_generation")
    batch, block = inputs_for(model), model.backbone.stack.blocks[0]

    def states() -> Tensor:
        with torch.no_grad(), accelerated(model):
            return model(**batch).last_hidden_state

    def plain() -> Tensor:
        with torch.no_grad():
            return model(**batch).last_hidden_state

    def set_norm() -> None:
        block.mlp_norm.weight.data.mul_(1.5)  # which torch does not count as a change

    def set_other_norm() -> None:
        block.attn_norm = copy.deepcopy(block.mlp_norm)

    changes = [
        lambda: setattr(block.attn, "scale", 1.0),
        lambda: setattr(block.attn, "window", 2),
        lambda: setattr(block.mlp, "activation", torch.tanh),
        lambda: setattr(block.mlp_norm, "eps", 0.5),
        set_norm,
        set_other_norm,
        lambda: block.attn.q.weight.data.mul_(-2.0),
        lambda: setattr(block.mlp.up, "bias", nn.Parameter(torch.ones(block.mlp.up.out_features))),
        lambda: setattr(block.mlp.up, "bias", None),
    ]
    before = states()
    run = prepared(model.backbone.stack)
    assert run is not None and prepared(model.backbone.stack) is run
    for change in changes:
        change()
        after = states()
        assert difference(after, before) > 1e-4
        there = batch["attention_mask"].bool()  # what the engine says of padding is nothing
        assert difference(after[there], plain()[there]) <= 1e-5 * max(1.0, after.std().item())
        before = after


def test_who_ran_is_forgotten() -> None:
    model = tiny_model("gpt2_text_generation")
    model.generate(**prompts_for(model), max_new_tokens=2)
    stack = weakref.ref(model.backbone.stack)
    del model
    gc.collect()
    assert stack() is None


def test_layers_that_lie_beside_each_other_are_one(tmp_path: Path) -> None:
    """Queries, keys and values of GPT-2's files are multiplied with at once, where they are."""
    tiny_model("gpt2_text_generation").export("transformers", tmp_path)
    model = Model.load(tmp_path, device="cpu")
    attn = model.backbone.stack.blocks[0].attn
    found = copies.beside((attn.q, attn.k, attn.v))
    assert found is not None
    weight, bias = found
    copied, copied_bias = copies.together((attn.q, attn.k, attn.v))
    assert torch.equal(weight, copied) and torch.equal(bias, copied_bias)
    assert weight.data_ptr() == attn.q.weight.data_ptr()
    for others in ((attn.k, attn.q, attn.v), (attn.q, attn.v), (attn.q, attn.out)):
        assert copies.beside(others) is None
    attn.k.weight.data = attn.k.weight.data.clone()
    assert copies.beside((attn.q, attn.k, attn.v)) is None
    expected = step_by_step(model)
    with accelerated(model):
        found_states = step_by_step(model)
    assert difference(found_states, expected) <= 4e-6


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("name", ["bert_text_classification", "t5_text_generation", "gpt2_text_generation"])
def test_under_autocast(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch chooses the types of operations then, on all threads, and nothing of it is left behind."""
    model = tiny_model(name, hidden_size=512)
    options = {"max_new_tokens": 4, "return_scores": True} if model.is_generative else {"top_k": None}
    if form == "bfloat16":
        model.to(torch.bfloat16)
    elif model.is_generative and form != "float32":
        model.quantize = form
    threads = torch.get_num_threads()
    by_itself = copy.deepcopy(model).predict(TEXTS, **options)
    with torch.autocast("cpu", torch.bfloat16):
        found = [model.predict(TEXTS, batch_size=2, **options)]
        torch.set_num_threads(2)
        try:
            found.append(model.predict(TEXTS, batch_size=2, **options))
        finally:
            torch.set_num_threads(threads)
        monkeypatch.setattr(running, "prepared", lambda *_: None)
        monkeypatch.setattr(running, "_linear", lambda *_: None)
        assert found == [model.predict(TEXTS, batch_size=2, **options)] * 2
        monkeypatch.undo()
    assert model.predict(TEXTS, **options) == by_itself


def test_a_change_that_torch_does_not_count_counts() -> None:
    """Averages of weights, and older optimizers, write through `.data`."""
    for name in ("gpt2_text_generation", "llama_text_generation", "bert_text_classification"):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            model = tiny_model(name).to(dtype)
            options = {"max_new_tokens": 6, "return_scores": True} if model.is_generative else {"top_k": None}
            before = model.predict(TEXTS[0], **options)
            for weight in model.parameters():
                weight.data.mul_(1.1)
            after = model.predict(TEXTS[0], **options)
            assert before != after == copy.deepcopy(model).predict(TEXTS[0], **options)


@torch.inference_mode()
@pytest.mark.parametrize("option", ["output_attentions", "output_hidden_states", None])
@pytest.mark.parametrize("name", ["gpt2_text_generation", "llama_text_generation"])
@pytest.mark.parametrize("form", ["int8", "float16"])
def test_a_cache_of_the_engine_is_read_by_modules(name: str, form: str, option: str | None) -> None:
    model = tiny_model(name)
    tokens = inputs_for(model)["token_ids"][:, :3]
    expected = model(token_ids=tokens).logits[:, -1]
    if form == "int8":
        model.quantize = "int8"
    else:
        model.half()
    with accelerated(model):
        cache = model(token_ids=tokens[:, :2], use_cache=True).past_key_values
        options = {} if option is None else {option: True}
        if option is not None:
            found = model(token_ids=tokens[:, 2:], past_key_values=cache, **options).logits
    if option is None:
        found = model(token_ids=tokens[:, 2:], past_key_values=cache).logits
    assert difference(found[:, -1].float(), expected) <= 0.2 * expected.std()


@torch.inference_mode()
def test_other_rotary_positions_count() -> None:
    model = tiny_model("llama_text_generation")
    for rotary in (model.backbone.stack.blocks[0].attn.rotary, Rotary(8, theta=100.0), None):
        for block in model.backbone.stack.blocks:
            block.attn.rotary = rotary
        with accelerated(model):
            found = step_by_step(model)
        assert difference(found, step_by_step(model)) <= 1e-5 * max(1.0, found.std().item())


@torch.inference_mode()
def test_a_norm_of_keys_only_counts() -> None:
    model = tiny_model("gpt2_text_generation")
    for block in model.backbone.stack.blocks:
        block.attn.k_norm = nn.LayerNorm(block.attn.head_dim).eval()
    with accelerated(model):
        found = step_by_step(model)
    assert difference(found, step_by_step(model)) <= 1e-5 * max(1.0, found.std().item())


@torch.inference_mode()
@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_a_weight_in_the_place_of_another_is_another(quantize: Any) -> None:
    model = tiny_model("gpt2_text_generation", hidden_size=64)
    model.quantize = quantize
    layer = model.backbone.stack.blocks[0].attn.out
    for number in range(10):
        with torch.inference_mode(False):
            new = {name: torch.randn_like(value) * 0.3 for name, value in model.state_dict().items()}
            model.load_state_dict(new, assign=True, strict=False)
            del new
            if number % 3 == 0:
                layer.weight = nn.Parameter(layer.weight.detach().t())
            elif number % 3 == 1:
                layer.weight = None  # its place is free before the next one is made
                layer.weight = nn.Parameter(torch.randn(64, 64))
        if number % 2 == 0:
            assert written(model) == written(copy.deepcopy(model))


@pytest.mark.parametrize("move", [lambda model: model.to("meta"), lambda model: model.half()], ids=["to", "half"])
def test_what_was_made_of_old_weights_is_freed(move: Any) -> None:
    others = {id(found) for found in tensors()}
    model = tiny_model("gpt2_text_generation")
    model.predict(["the", "cat"] * 4, progress=False, max_new_tokens=6)  # few rows, for which weights are copied
    made = [weakref.ref(found) for found in tensors() if id(found) not in others and found.numel() >= 32 * 32]
    assert len(made) > len([weight for weight in model.parameters() if weight.numel() >= 32 * 32])
    move(model)
    gc.collect()
    left = [found for one in made if (found := one()) is not None]
    assert all(any(found is weight for weight in model.parameters()) for found in left)


def tensors() -> list[Tensor]:
    gc.collect()
    return [found for found in gc.get_objects() if type(found) in (Tensor, nn.Parameter)]


@torch.inference_mode()
@pytest.mark.parametrize("name", ["bert_text_classification", "gpt2_text_generation", "llama_text_generation"])
def test_a_batch_of_padding_only(name: str) -> None:
    model = tiny_model(name)
    nothing = torch.zeros(2, 4, dtype=torch.int64)
    with accelerated(model):
        states = model(token_ids=nothing, attention_mask=nothing).last_hidden_state
    assert states.shape[:2] == (2, 4) and not states.any()


def test_a_wrong_number_stays_one_in_8_bits() -> None:
    model = tiny_model("gpt2_text_generation")
    model.quantize = "int8"
    for wrong in (slice(None), slice(0, 1)):  # of all numbers torch finds no scale, of one it makes another number
        with torch.no_grad():
            model.backbone.embed.tokens.weight[:, wrong] = float("nan")
        with pytest.raises(ArithmeticError, match="NaN"):
            written(model)
        with torch.no_grad():
            model.backbone.embed.tokens.weight.fill_(0.1)
    model.backbone.stack.blocks[0].mlp_norm.weight.data[0] = float("nan")  # inside of a block, too
    with pytest.raises(ArithmeticError, match="NaN"):
        written(model)
    assert projection("int8", nn.Linear(64, 64)).run(torch.randn(1, 64)).isfinite().all()


def test_parameters_of_ones_own() -> None:
    """More of them than there were are another model, and no error."""
    model = tiny_model("gpt2_text_generation")
    before = written(model)
    model.backbone.stack.blocks[0].mlp.up.register_parameter("own", nn.Parameter(torch.zeros(3)))
    assert written(model) == before
