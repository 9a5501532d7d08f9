"""Packed rows in training: the loss and the gradients of the padded batch, for every model that reads them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import text_models
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from trained import classification, language, model, tagging, trainer, without_dropout
from varlen_kernel import Kernel

from hezar_like.blocks import Block, Stack
from hezar_like.engine import flash
from hezar_like.errors import ConfigError
from hezar_like.layers import Attention
from hezar_like.registry import models_registry
from hezar_like.training.batches import PackedRowsCollator
from hezar_like.training.packed_stacks import running_stacks, without_padding
from hezar_like.training.precision import computing
from hezar_like.training.step import TrainingStep, counted, why_not_packed

KINDS = {
    "text_classification": classification,
    "sequence_labeling": tagging,
    "mask_filling": lambda count: language("masked", count),
    "text_generation": lambda count: language("causal", count),
}
NAMES = [name for name in text_models() if models_registry[name].module_class.task in KINDS]
ENCODERS_THAT_WRITE = ("bert_text_generation", "roberta_text_generation")
"""Their samples say of each token whether it is read or written, which those here do not."""
PACKABLE = [name for name in NAMES if why_not_packed(model(name)) is None]


def test_most_families_are_packed() -> None:
    families = {name.partition("_")[0] for name in PACKABLE}
    assert families >= {"bert", "roberta", "distilbert", "gpt2", "llama", "cpm1"}
    for name in ("t5_text_generation", "bert_text_generation", "bert_sequence_labeling_crf"):
        assert why_not_packed(model(name)) is not None


def by_torch(own: Any) -> Any:
    """A loop of one's own."""
    return nullcontext()


def by_trainer(own: Any) -> Any:
    return computing(own, None, torch.device("cpu"), sharded=False)()


def by_blocks(own: Any) -> Any:
    """What a trainer does where blocks run by themselves."""
    return running_stacks(own, without_padding)


def samples_of(name: str, count: int = 7) -> tuple[Any, list[Any]]:
    data = KINDS[models_registry[name].module_class.task](count)
    if hasattr(data, "set_epoch"):
        data.set_epoch(1)
    return data, [data[i] for i in range(count)]


def gradients(own: Any, batch: Any, context: Any) -> tuple[Tensor, dict[str, Tensor]]:
    own.zero_grad()
    with context:
        loss = TrainingStep(own)(dict(batch))["loss"]
    loss.backward()
    return loss.detach(), {key: p.grad.clone() for key, p in own.named_parameters() if p.grad is not None}


def assert_same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for key, grad in expected[1].items():
        assert (grad - found[1][key]).abs().max() <= 1e-5 * max(1.0, float(grad.abs().max())), key


@pytest.mark.parametrize("by", [by_torch, by_trainer, by_blocks])
@pytest.mark.parametrize("name", PACKABLE)
def test_packed_is_padded(name: str, by: Callable[[Any], Any]) -> None:
    data, samples = samples_of(name)
    own = without_dropout(model(name)).train()
    padded, packed = (collator(samples) for collator in (data.data_collator, PackedRowsCollator(0)))
    expected = gradients(own, padded, nullcontext())
    for batch in (padded, packed):
        assert_same(gradients(own, batch, by(own)), expected)
    assert counted(own, padded) == counted(own, packed)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*PACKABLE, *ENCODERS_THAT_WRITE)])
def test_padding_is_left_out_where_it_can_be(name: str) -> None:
    data, samples = samples_of(name)
    own, batch = without_dropout(model(name)).train(), data.data_collator(samples)
    assert_same(gradients(own, batch, by_trainer(own)), gradients(own, batch, nullcontext()))


@pytest.mark.parametrize("by", [by_trainer, by_blocks])
@pytest.mark.parametrize("name", ["gpt2_text_generation", "llama_text_generation", "bert_sequence_labeling"])
def test_padding_with_labels_is_not_left_out(name: str, by: Callable[[Any], Any]) -> None:
    """As by a collator of one's own, whose labels are the tokens."""
    data, samples = samples_of(name)
    own, batch = without_dropout(model(name)).train(), data.data_collator(samples)
    batch["labels"] = batch["labels"].masked_fill(batch["attention_mask"] == 0, 1)
    assert_same(gradients(own, batch, by(own)), gradients(own, batch, nullcontext()))


@pytest.mark.parametrize("by", [by_trainer, by_blocks])
@pytest.mark.parametrize("name", ["bert_text_classification", "llama_text_classification"])
def test_texts_without_tokens_are_what_they_are(name: str, by: Callable[[Any], Any]) -> None:
    """Not all tokenizers add tokens to an empty text."""
    data, samples = samples_of(name)
    own, batch = without_dropout(model(name)).train(), data.data_collator(samples)
    batch["attention_mask"][2] = 0
    assert_same(gradients(own, batch, by(own)), gradients(own, batch, nullcontext()))


@pytest.mark.parametrize(
    ("name", "fields"),
    [("mistral_text_generation", {"sliding_window": 3}), ("t5_sequence_labeling", {}), ("bert_sequence_labeling", {})],
)
def test_tokens_do_not_come_nearer_where_there_is_padding_between_them(name: str, fields: dict[str, Any]) -> None:
    data, samples = samples_of(name)
    own, batch = without_dropout(model(name, **fields)).train(), data.data_collator(samples)
    batch["attention_mask"][:, 2] = 0
    batch["labels"][:, 2:4] = -100
    assert_same(gradients(own, batch, by_trainer(own)), gradients(own, batch, nullcontext()))


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("name", ["llama_text_generation", "t5_text_generation", "gemma2_text_generation"])
def test_activations_computed_again_are_the_same(name: str, every: int) -> None:
    data, samples = samples_of(name)
    own, batch = without_dropout(model(name)).train(), data.data_collator(samples)
    expected = gradients(own, batch, nullcontext())
    for part in own.modules():
        if isinstance(part, Stack):
            part.checkpoint_activations = every
    assert_same(gradients(own, batch, by_blocks(own)), expected)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["bert_sequence_labeling", "llama_text_generation"])
def test_what_is_computed_again_as_a_whole_is_the_same(name: str, reentrant: bool) -> None:
    """By a model of one's own, which has its backbone computed again in the backward pass, outside of the trainer's context."""
    data, samples = samples_of(name)
    own, batches = model(name).train(), [make(samples) for make in (data.data_collator, PackedRowsCollator(0))]
    for part in own.modules():
        if isinstance(part, Attention):
            part.dropout = 0.5
    stack, found = own.backbone.stack, []
    for batch in batches:
        for context in (nullcontext(), by_trainer(own)):
            torch.manual_seed(2)
            before = stack.__class__
            stack.__class__ = type("Again", (Stack,), {
                "forward": lambda self, *given: checkpoint(lambda *g: Stack.forward(self, *g), *given, use_reentrant=reentrant)
            })  # fmt: skip
            found.append(gradients(own, batch, context))
            stack.__class__ = before
        assert_same(*found[-2:])


class ShardedBlock(FSDPModule, Block):
    """What a block is when its parameters are shards."""

    __new__ = Block.__new__


@pytest.mark.parametrize("kind", [Block, ShardedBlock])
@pytest.mark.parametrize("name", ["bert_sequence_labeling", "llama_text_generation"])
def test_no_text_looks_at_all_tokens(name: str, kind: type[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    own, seen = without_dropout(model(name)).train(), []
    for block in own.backbone.stack.blocks:
        block.__class__ = kind
    attend = Attention.attend

    def watched(self: Attention, q: Tensor, k: Tensor, *others: Any) -> Tensor:
        seen.append((q.size(2), k.size(2)))
        return attend(self, q, k, *others)

    monkeypatch.setattr(Attention, "attend", watched)
    batch = PackedRowsCollator(0)([{"token_ids": [7] * 9, "labels": [1] * 9}] * 40)
    gradients(own, batch, by_blocks(own))
    assert set(seen) == {(16, 16)}  # texts are filled up to what is quicker


@pytest.mark.parametrize(
    ("name", "fields"),
    [("bert_sequence_labeling", {}), *((f"{name}_text_generation", {"head_dim": 16}) for name in ("llama", "qwen3"))],
)
def test_a_kernel_for_all_texts_has_the_same_gradients(
    name: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, samples = samples_of(name)
    own, kernel = without_dropout(model(name, **fields)).train(), Kernel()
    monkeypatch.setattr(flash, "_kernel_for", lambda query: kernel)
    found = gradients(own, PackedRowsCollator(0)(samples), by_blocks(own))
    assert kernel.calls == len(own.backbone.stack.blocks)
    assert_same(found, gradients(own, data.data_collator(samples), nullcontext()))
    for block in own.backbone.stack.blocks:  # the kernel drops nothing
        block.attn.dropout = 0.1
    gradients(own, PackedRowsCollator(0)(samples), by_blocks(own))
    assert kernel.calls == len(own.backbone.stack.blocks)


def test_what_is_listened_to_keeps_its_shape() -> None:
    own, (data, samples), seen = model("llama_text_generation").train(), samples_of("llama_text_generation"), []
    own.backbone.stack.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape[:2]))
    batch = data.data_collator(samples)
    gradients(own, batch, by_trainer(own))
    assert seen == [batch["token_ids"].shape]


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch, while it compiles
def test_compiled_blocks_are_compiled_once() -> None:
    own, (data, samples), graphs = model("llama_text_generation").train(), samples_of("llama_text_generation"), []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    expected = gradients(own, data.data_collator(samples), nullcontext())
    for block in own.backbone.stack.blocks:
        block.compile(dynamic=True, backend=backend)
    for count in range(4, 8):
        found = gradients(own, PackedRowsCollator(0)(samples[:count]), by_trainer(own))
    assert_same(found, expected)
    assert len(graphs) <= 2


@pytest.mark.parametrize("part", ["attention", "block"])
def test_what_attends_in_its_own_way_does_so(part: str) -> None:
    class Doubled(Attention):
        """One that was written before there was `instead`."""

        def forward(self, x: Tensor, source: Any = None, *, mask: Any = None, causal: bool = False, rotation: Any = None,
                    cache: Any = None, head_mask: Any = None, probabilities: Any = None) -> Tensor:
            return 2 * super().forward(x, source, mask=mask, causal=causal, rotation=rotation, cache=cache,
                                       head_mask=head_mask, probabilities=probabilities)  # fmt: skip

    own, (data, samples) = without_dropout(model("llama_text_generation")).train(), samples_of("llama_text_generation")
    block = own.backbone.stack.blocks[0]
    if part == "attention":
        block.attn.__class__ = Doubled
    else:
        block._attend = lambda *given, before=block._attend: 2 * before(*given)
    expected = gradients(own, data.data_collator(samples), nullcontext())
    for context in (nullcontext(), by_trainer(own)):
        assert_same(gradients(own, PackedRowsCollator(0)(samples), context), expected)


def test_adapters_are_trained_on_packed_rows(tmp_path: Path) -> None:
    own = trainer(tmp_path, without_dropout(model("llama_text_generation")), language("causal"), lora={"r": 2}).model
    data, samples = samples_of("llama_text_generation")
    batch = PackedRowsCollator(0)(samples)
    expected = gradients(own.train(), data.data_collator(samples), nullcontext())
    assert_same(gradients(own, batch, by_trainer(own)), expected)


def test_rows_are_as_long_as_they_must() -> None:
    long = {"token_ids": list(range(1, 200)), "labels": 1}
    short = {"token_ids": [1, 2, 3], "labels": 0}
    assert PackedRowsCollator(0)([short] * 10)["token_ids"].shape == (1, 30)
    assert PackedRowsCollator(0)([long, *[short] * 10])["token_ids"].shape == (2, 199)


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be trained packed: a decoder that looks at"):
        trainer(tmp_path, model("t5_text_generation"), language("causal"), packed=True)
