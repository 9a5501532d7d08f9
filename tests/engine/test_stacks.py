"""Models run by the engine: that nothing differs, what it leaves alone, and that weights count as they are now."""

from __future__ import annotations

import copy
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_tensors, difference
from tiny_models import TEXTS, built_in, inputs_for, prompts_for, text_models, tiny_model
from torch import Tensor, nn

from hezar_like import Model
from hezar_like.backbones import BlankFiller, EncoderDecoder
from hezar_like.blocks import Context, Stack
from hezar_like.engine import running, stacks
from hezar_like.engine.devices import multiplies
from hezar_like.engine.kinds import kind_for
from hezar_like.engine.packing import pack, reading_only
from hezar_like.engine.rounded import in_float16
from hezar_like.engine.running import accelerated
from hezar_like.engine.stacks import prepared
from hezar_like.layers import Attention
from hezar_like.layers.substitutes import SUBSTITUTES
from hezar_like.registry import models_registry

GENERATIVE = [
    name for name in built_in() if models_registry[name].module_class.task == "text_generation" and "bert" not in name
]
READING = [name for name in text_models() if not models_registry[name].module_class.is_generative]
SAME = 4e-6
"""How far hidden states may be from those of the modules where the weights lie the same."""
REORDERED = 1e-5
"""The same where sums are in another order: of copies of the weights, and of packed texts."""
SCORES = 1e-6 if torch.cpu._is_avx512_supported() else 3e-6
"""The same for scores, which are smaller than hidden states: up to 7e-7 with AVX-512, 1.5e-6 with AVX2."""
TWICE = 0.4 if torch.cpu._is_vnni_supported() else 0.65  # there 8 bits are 7: 0.59 for one family
ROUNDED = {"bfloat16": 0.25, "float16": 0.02, "int8": 0.4, "bfloat16 int8": TWICE, "bfloat16 int4": 2.0}
"""How far the scores of tiny models may be from those of float32, in standard deviations."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def stack_of(model: Model) -> Stack:
    backbone = model.backbone
    return backbone.decoder if isinstance(backbone, EncoderDecoder) else backbone.stack


def stepped(model: Model) -> list[Tensor]:
    """Hidden states of a text read in steps, with padding."""
    inputs = prompts_for(model)
    if model.backbone.blanks is not None:
        inputs["token_ids"][:, 2] = model.backbone.blanks.suffix
    writer = model.backbone.writer(inputs)
    piece = next(writer.pieces())
    states = [writer.step(piece.tokens)]
    for count in (1, 1, 3):
        states.append(writer.step(torch.full((len(piece.tokens), count), 30)))
    writer.expand(2)
    states.append(writer.step(torch.full((2 * len(piece.tokens), 1), 31)))
    writer.select(torch.tensor([0]))
    states.append(writer.step(torch.tensor([[32]])))
    return [state.float() for state in states]


@torch.no_grad()
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("name", GENERATIVE)
def test_writing_is_the_same(name: str, copied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (running, stacks):
        monkeypatch.setattr(module, "FEW_ROWS", range(1, 99) if copied else ())
    model = tiny_model(name)
    expected = stepped(model)
    with accelerated(model):
        assert stack_of(model) in SUBSTITUTES
        found = stepped(model)
    assert not SUBSTITUTES
    bound = REORDERED if copied or isinstance(model.backbone, EncoderDecoder) else SAME
    for ours, plain in zip(found, expected, strict=True):
        assert difference(ours, plain) <= bound * max(1.0, plain.std().item())


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATIVE)
@pytest.mark.parametrize("form", ROUNDED)
def test_rounded_weights_write_nearly_the_same(name: str, form: str) -> None:
    model = tiny_model(name)
    expected = stepped(model)
    for part in form.split():
        if part.startswith("int"):
            model.quantize = part
        else:
            model.to(getattr(torch, part))
    with accelerated(model):
        found = stepped(model)
    for ours, plain in zip(found, expected, strict=True):
        assert 0 < difference(ours, plain) <= ROUNDED[form] * max(1.0, plain.std().item())


@torch.no_grad()
@pytest.mark.parametrize("number", [1e6, 1e-7, float("inf"), float("nan")])
def test_weights_that_float16_has_not_are_not_rounded_to_it(number: float) -> None:
    layer, x = nn.Linear(8, 4, bias=False).bfloat16(), torch.rand(3, 8)
    layer.weight.abs_().mul_(number)
    expected = x @ layer.weight.float().T
    for rows in (x, x[:1]):
        assert torch.allclose(in_float16(layer).run(rows), expected[: len(rows)], rtol=1e-5, atol=0, equal_nan=True)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_processors_that_multiply_no_float16_take_weights_as_they_are(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch takes another engine on ARM, where packing weights of float16 is an error."""
    model, batch = tiny_model("llama_text_generation").to(dtype), {"token_ids": torch.randint(5, 100, (2, 9))}
    expected = model(**batch).logits
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
    with accelerated(model):
        assert difference(model(**batch).logits, expected) <= ROUNDED["bfloat16"]


def test_torch_without_onednn_has_no_instructions_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for macOS."""
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    for name in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, name, None, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    for dtype in (torch.bfloat16, torch.float16):
        assert not multiplies(dtype, torch.device("cpu"))
        assert kind_for(torch.zeros(2, 2, dtype=dtype), None) in ("half", "plain")


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATIVE)
def test_four_bits_are_coarse_and_read_what_is_given_as_it_is(name: str) -> None:
    model = tiny_model(name)
    first, *expected = stepped(model)
    model.quantize = "int4"
    with accelerated(model):
        found_first, *found = stepped(model)
    assert difference(found_first, first) <= SAME or isinstance(model.backbone, EncoderDecoder | BlankFiller)
    bound = 0.6 if isinstance(model.backbone, EncoderDecoder) else 0.4  # T5 does not scale what it attends by
    for ours, plain in zip(found, expected, strict=True):
        assert 0 < (ours - plain).std() <= bound * plain.std()


@torch.no_grad()
@pytest.mark.parametrize("name", READING)
def test_reading_is_the_same(name: str) -> None:
    model = tiny_model(name)
    texts = [f"[MASK] {text}" for text in TEXTS] if model.task == "mask_filling" else TEXTS
    batch = {key: value for key, value in model.preprocess(texts).items() if key in model.input_names}
    plain = model.run(batch)
    with accelerated(model):
        found = model.run(batch)
    assert found.keys() == plain.keys()
    present = batch["attention_mask"].bool() if "attention_mask" in batch else None
    for key in plain:
        ours, theirs = found[key], plain[key]
        if present is not None and ours.shape[:2] == present.shape:
            ours, theirs = ours[present], theirs[present]
        elif ours.shape[-2:] == (batch["token_ids"].size(1),) * 2:  # scores of spans: of those that are in the text
            inside = present[:, None, :, None] & present[:, None, None, :]
            ours, theirs = (scores.masked_fill(~inside, 0.0) for scores in (ours, theirs))
        assert difference(ours, theirs) <= 1e-5 * max(1.0, theirs[theirs.isfinite()].std().item()), key


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert_text_classification", "gpt2_text_classification", "bert_text_embedding"])
def test_padding_may_stand_on_the_left(name: str) -> None:
    model = tiny_model(name, **({"pooling": "cls"} if name.endswith("embedding") else {}))
    right = inputs_for(model)
    left = {key: torch.stack([row.roll(count) for row, count in zip(value, (0, 2), strict=True)])
            for key, value in right.items()}  # fmt: skip
    positions = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
    key = "logits" if "classification" in name else "embeddings"
    expected = model(**right)[key]
    assert difference(model(**left, position_ids=positions)[key], expected) <= SAME
    found = model.predict({**left, "position_ids": positions}, preprocess=False, post_process=False)
    assert difference(torch.stack([one[key] for one in found]), expected) <= SAME
    with accelerated(model), reading_only(model.tokens_read):
        assert difference(model.run({**left, "position_ids": positions})[key], expected) <= SAME


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields"), [("t5_sequence_labeling", {}), ("mistral_text_generation", {"sliding_window": 2})])
def test_padding_may_stand_between_tokens(name: str, fields: dict[str, Any]) -> None:
    """Where distances count, they stay what they are."""
    model, ids, mask = tiny_model(name, **fields), torch.randint(5, 100, (2, 9)), torch.ones(2, 9, dtype=torch.int64)
    mask[0, 4] = mask[1, 7:] = 0
    expected = model(token_ids=ids, attention_mask=mask).logits[mask.bool()]
    with accelerated(model):
        assert difference(model(token_ids=ids, attention_mask=mask).logits[mask.bool()], expected) <= REORDERED


def numbers(result: Any) -> list[float]:
    """All numbers in results, in their order."""
    if isinstance(result, Tensor):
        return result.flatten().tolist()
    if isinstance(result, dict):
        return [number for value in result.values() for number in numbers(value)]
    if isinstance(result, list | tuple):
        return [number for value in result for number in numbers(value)]
    return [float(result)] if isinstance(result, float) else []


def scale_queries(model: Model) -> None:
    """Of attention that does not scale its scores, weights that do, as those of T5 are: else softmax makes much of little."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Attention) and part.scale == 1.0:
                part.q.weight.mul_(part.head_dim**-0.5)


def difference_of_numbers(found: Any, expected: Any) -> float:
    """The largest one, in parts of numbers above 1."""
    pairs = zip(numbers(found), numbers(expected), strict=True)
    return max((abs(a - b) / max(1.0, abs(b)) for a, b in pairs), default=0.0)


def words(result: Any) -> Any:
    """Results without their numbers."""
    if isinstance(result, dict):
        return {key: words(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [words(value) for value in result]
    return None if isinstance(result, float | Tensor) else result


@pytest.mark.parametrize("name", READING)
def test_batches_orders_and_threads_do_not_tell(name: str) -> None:
    model = tiny_model(name)
    texts = [text for text in TEXTS if text] * 3
    if model.task == "mask_filling":
        texts = [f"[MASK] {text}" for text in texts]
    scale_queries(model)
    expected = [model.predict([text], progress=False)[0] for text in texts]
    bound = REORDERED if model.task in ("backbone", "text_embedding") else SCORES
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for found in (
                model.predict(texts, batch_size=4),
                model.predict(texts[::-1])[::-1],
                list(model.stream(iter(texts), batch_size=2)),
            ):
                assert words(found) == words(expected)
                assert difference_of_numbers(found, expected) <= bound
    finally:
        torch.set_num_threads(threads)


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder = tiny_model("gpt2_text_generation"), tiny_model("bert_text_classification")
    monkeypatch.setattr("hezar_like.blocks.Block.forward", None)
    assert model.generate(**prompts_for(model), max_new_tokens=3).size(1) == 9
    assert len(encoder.predict(TEXTS)) == len(TEXTS)


def test_what_one_caller_does_not_read_another_may() -> None:
    """What `predict` leaves out for itself is there for a call of the model that comes while it runs."""
    model = tiny_model("bert_text_classification")
    batch = {key: value for key, value in model.preprocess(TEXTS[:3]).items() if key in model.input_names}
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
    found = []
    post_process = model.post_process

    def meanwhile(outputs: Any, batch_: Any) -> Any:
        thread = threading.Thread(target=lambda: found.append(states()))
        thread.start()
        thread.join()
        return post_process(outputs, batch_)

    def states() -> Tensor:
        with torch.no_grad():
            return model(**batch).last_hidden_state

    model.post_process = lambda outputs, batch: meanwhile(outputs, batch)  # type: ignore[method-assign]
    model.predict(TEXTS)
    whole = model.predict(TEXTS[:3], post_process=False)
    present = batch["attention_mask"].bool()
    for states_found in [*found, torch.stack([one["last_hidden_state"] for one in whole])]:
        assert difference(states_found[present], expected[present]) <= 1e-5


def test_what_gradients_are_wanted_of_runs_by_itself() -> None:
    model = tiny_model("bert_text_classification")
    inputs = inputs_for(model)
    with accelerated(model):
        model(**inputs, labels=torch.tensor([0, 1])).loss.backward()
    assert all(p.grad is not None for p in model.backbone.stack.parameters())


def noted(called: list[str], forward: Any, *args: Any, **kwargs: Any) -> Tensor:
    called.append("forward")
    return forward(*args, **kwargs)


def test_what_somebody_put_in_runs() -> None:
    called = []
    for change in ("hook", "layer", "forward", "attend", "_attend", "block", "global"):
        model = tiny_model("gpt2_text_generation")
        stack, handle = stack_of(model), None
        if change == "hook":
            stack.blocks[1].mlp.up.register_forward_hook(lambda *_: called.append("hook"))
        elif change == "layer":

            class Noted(nn.Linear):
                def forward(self, x: Tensor) -> Tensor:
                    called.append("layer")
                    return super().forward(x)

            stack.blocks[0].attn.q.__class__ = Noted
        elif change == "forward":
            attention = stack.blocks[0].attn
            attention.forward = partial(noted, called, attention.forward)
        elif change in ("attend", "_attend"):
            of = stack.blocks[0] if change == "_attend" else stack.blocks[0].attn
            before = getattr(of, change)
            setattr(of, change, lambda *given, before=before, name=change: called.append(name) or before(*given))
        elif change == "block":

            class Own(type(stack.blocks[0])):  # type: ignore[misc]
                def forward(self, *args: Any) -> Tensor:
                    called.append("block")
                    return super().forward(*args)

            stack.blocks[0].__class__ = Own
        else:
            handle = nn.modules.module.register_module_forward_hook(lambda *_: called.append("global"))
        try:
            model.generate(**prompts_for(model), max_new_tokens=2)
        finally:
            if handle is not None:
                handle.remove()
        assert change in called
    assert prepared(stack_of(tiny_model("gpt2_text_generation").train())) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_other_weights_count_at_once(dtype: torch.dtype) -> None:
    model, other = tiny_model("llama_text_generation").to(dtype), tiny_model("llama_text_generation").to(dtype)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = prompts_for(model)

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


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_model_stays_what_it_was(tmp_path: Path, quantize: Any) -> None:
    """Weights laid beside each other are trained, copied and saved like others."""
    model = tiny_model("gpt2_text_generation")
    model.quantize = quantize
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
    batch = prompts_for(model)
    model(**batch, labels=batch["token_ids"]).loss.backward()
    optimizer.step()
    model.eval()
    changed = model.state_dict()
    assert not torch.equal(changed["backbone.stack.blocks.0.attn.q.weight"], state["backbone.stack.blocks.0.attn.q.weight"])
    assert_same_tensors(twin.state_dict(), state)
    for one in (model, twin):
        fresh = tiny_model("gpt2_text_generation")
        fresh.quantize = quantize
        fresh.load_state_dict(one.state_dict())
        assert one.generate(**batch, max_new_tokens=6).tolist() == fresh.generate(**batch, max_new_tokens=6).tolist()


@pytest.mark.parametrize("fused", [False, True])
def test_what_an_optimizer_changes_counts_at_once(fused: bool) -> None:
    model = tiny_model("bert_text_classification").to(torch.bfloat16)
    before = model.predict(TEXTS, top_k=None)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    model(**inputs_for(model), labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    model.eval()
    twin = copy.deepcopy(model)
    assert model.predict(TEXTS, top_k=None) == twin.predict(TEXTS, top_k=None) != before


@pytest.mark.parametrize("reads", ["all", "first", "last"])
@pytest.mark.parametrize("name", ["bert", "gptj", "llama"])
def test_few_numbers_of_rows_are_multiplied(name: str, reads: Any) -> None:
    """For each other number oneDNN compiles its products anew."""
    stack = stack_of(tiny_model(name))
    width = stack.blocks[0].attn.q.in_features
    programs = [stacks._reading(list(stack.blocks), stack.norm, kind, reads) for kind in ("plain", "packed")]
    rows = []
    for counts in ([7], [32], [3, 5, 5], [1] * 17, [70, 3], [90, 40, 40]):
        present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        x = torch.randn(*present.shape, width, generator=torch.Generator().manual_seed(len(rows)))
        positions = torch.arange(max(counts))[None]
        found = []
        for program in programs:
            context = Context(mask=present[:, None, None], present=present, causal=name != "bert", positions=positions)
            with torch.no_grad():
                found.append(program(x, context))
        tokens, packed = pack(x, Context(present=present), reads, filled=True)
        rows.append((len(tokens), None if packed.read is None else len(packed.read)))
        assert difference(*found) <= 1e-5
    assert rows[0][0] == 16 and not any(count % 16 or (count > 64 and count % 32) for count, _ in rows)
    assert all(read is None or read % 16 == 0 for _, read in rows)
