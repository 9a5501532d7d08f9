"""Stacks in training in fewer passes: what torch computes, whatever is dropped, and nothing that they do not know."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import text_models
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from trained import classification, language, model, tagging, trainer, without_dropout

from hezar_like.blocks import Context, Stack
from hezar_like.data.packing import span_mask
from hezar_like.engine.packing import pack, rows_of_texts
from hezar_like.layers.substitutes import TRAINED
from hezar_like.registry import models_registry
from hezar_like.training import trained_layers, trained_stacks
from hezar_like.training.batches import PackedRowsCollator
from hezar_like.training.precision import computing
from hezar_like.training.step import TrainingStep, why_not_packed
from hezar_like.training.trained_stacks import in_fewer_passes

KINDS = {
    "text_classification": classification,
    "sequence_labeling": tagging,
    "mask_filling": lambda count: language("masked", count),
    "text_generation": lambda count: language("causal", count),
}
KNOWN = ["bert", "roberta", "distilbert", "gpt2"]
NAMES = [
    name for name in text_models()
    if name.partition("_")[0] in KNOWN and models_registry[name].module_class.task in KINDS
    and why_not_packed(model(name)) is None
]  # fmt: skip


PRECISIONS = [None, "bf16"]
HALF = torch.bfloat16


def stacks_in(own: Any) -> int:
    """How many stacks of a model run in fewer passes."""
    stacks = [part for part in own.modules() if isinstance(part, Stack)]
    found = {sum(in_fewer_passes(stack, dtype) is not None for stack in stacks) for dtype in (torch.float32, HALF)}
    (count,) = found
    return count


def running(own: Any, precision: str | None = "bf16") -> Any:
    """What a trainer enters for a forward pass."""
    return computing(own, precision, torch.device("cpu"), sharded=False)()


def gradients(own: Any, batch: Any, context: Any) -> tuple[float, Tensor, list[str]]:
    own.zero_grad(set_to_none=True)
    with context:
        loss = TrainingStep(own)(dict(batch))["loss"]
    loss.backward()
    found = {name: p.grad.flatten() for name, p in own.named_parameters() if p.grad is not None}
    return float(loss.detach()), torch.cat(list(found.values())), list(found)


def batches(name: str, count: int = 7) -> tuple[Any, Any]:
    data = KINDS[models_registry[name].module_class.task](count)
    if hasattr(data, "set_epoch"):
        data.set_epoch(1)
    samples = [data[i] for i in range(count)]
    return data.data_collator(samples), PackedRowsCollator(0)(samples)


def test_families_are_known() -> None:
    assert {name.partition("_")[0] for name in NAMES} == set(KNOWN)


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_modules(name: str) -> None:
    own = without_dropout(model(name)).train()
    padded, packed = batches(name)
    exact = gradients(own, padded, torch.enable_grad())
    for batch in (padded, packed):
        loss, found, names = gradients(own, batch, running(own, None))
        assert names == exact[2]
        assert loss == pytest.approx(exact[0], rel=1e-5)
        assert torch.allclose(found, exact[1], rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_autocast(name: str) -> None:
    own = without_dropout(model(name)).train()
    assert stacks_in(own) == 1
    padded, packed = batches(name)
    exact = gradients(own, padded, torch.enable_grad())
    usual = gradients(own, padded, torch.autocast("cpu", torch.bfloat16))
    for batch in (padded, packed):
        loss, found, names = gradients(own, batch, running(own))
        assert names == exact[2]
        assert abs(loss - exact[0]) < 5e-3 * max(1.0, exact[0])
        error, usual_error = ((part - exact[1]).norm() / exact[1].norm() for part in (found, usual[1]))
        assert error < max(3 * usual_error, 0.02), (error, usual_error)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_packed_is_padded(precision: str | None) -> None:
    own = without_dropout(model()).train()
    padded, packed = (gradients(own, batch, running(own, precision)) for batch in batches("bert_text_classification"))
    assert padded[0] == pytest.approx(packed[0], abs=1e-5)
    assert torch.allclose(padded[1], packed[1], atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_runs_in_place_of_the_stack(monkeypatch: pytest.MonkeyPatch, precision: str | None) -> None:
    own, calls = model().train(), []
    monkeypatch.setattr(
        trained_stacks, "_block", lambda *given, before=trained_stacks._block: calls.append(1) or before(*given)
    )
    gradients(own, batches("bert_text_classification")[0], running(own, precision))
    assert len(calls) == len(own.backbone.stack.blocks)
    assert not TRAINED


def test_few_numbers_of_tokens_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each other number the processor's code would be made anew."""
    own, seen = without_dropout(model("bert_sequence_labeling")).train(), []
    monkeypatch.setattr(
        trained_stacks,
        "linear",
        lambda x, *given, before=trained_stacks.linear: seen.append(len(x)) or before(x, *given),
    )
    for count in (3, 7, 12):
        batch = batches("bert_sequence_labeling", count)[1]
        gradients(own, batch, running(own))
        assert seen[-1] - 32 < int((batch["span"] > 0).sum()) <= seen[-1]
    assert not any(rows % 16 or (rows > 64 and rows % 32) for rows in seen)


def test_what_it_does_not_know_runs_as_it_is(tmp_path: Path) -> None:
    for name in ("t5_text_generation", "llama_text_generation", "gptj_text_generation", "cpm1_text_generation"):
        assert stacks_in(model(name)) == 0
    heard = model()
    heard.backbone.stack.blocks[0].register_forward_hook(lambda *_: None)
    changed = model()
    changed.backbone.stack.blocks[1].mlp.up = nn.Sequential(changed.backbone.stack.blocks[1].mlp.up)
    adapted = trainer(tmp_path, model(), lora={"r": 2}).model
    replaced = model()
    attention = replaced.backbone.stack.blocks[0].attn
    attention.attend = lambda *given, own=attention.attend: own(*given)
    assert [stacks_in(own) for own in (heard, changed, adapted, replaced, model())] == [0, 0, 0, 0, 1]
    own = without_dropout(model()).train()
    ids = torch.randint(5, 100, (2, 6))
    with running(own):
        seen = own.backbone(ids, attention_mask=torch.ones(2, 6, 6), output_hidden_states=True)
    assert len(seen.hidden_states) == 3
    with running(own):  # a mask that says more than where padding is
        alone = own.backbone(ids, attention_mask=torch.eye(6)[None].expand(2, 6, 6)).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(
            alone, own.backbone(ids, attention_mask=torch.eye(6)[None].expand(2, 6, 6)).last_hidden_state
        )


def test_outside_of_autocast_nothing_changes() -> None:
    own = model().eval()
    ids = torch.randint(5, 100, (2, 6))
    expected = own(token_ids=ids).logits
    with running(own), torch.autocast("cpu", enabled=False):
        assert torch.equal(own(token_ids=ids).logits, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("any_precision")
def test_each_step_sees_the_weights_of_the_last(tmp_path: Path, precision: str | None) -> None:
    """A fused optimizer does not say that it has changed them."""
    own = without_dropout(model())
    trainer(tmp_path, own, mixed_precision=precision, packed=True, max_steps=3, learning_rate=0.01).train()
    batch = batches("bert_text_classification")[1]
    fresh = model()
    fresh.load_state_dict(own.state_dict())
    losses = [gradients(part, batch, running(part, precision))[0] for part in (own, fresh)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("every", [1, 2])
def test_activations_computed_again_are_the_same(every: int, precision: str | None) -> None:
    own = model(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3).train()
    batch = batches("bert_text_classification")[1]
    found = []
    for value in (0, every):
        own.backbone.stack.checkpoint_activations = value
        torch.manual_seed(1)
        found.append(gradients(own, batch, running(own, precision)))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_weights_that_change_are_seen() -> None:
    own = without_dropout(model()).train()
    batch = batches("bert_text_classification")[1]
    first = gradients(own, batch, running(own))
    assert gradients(own, batch, running(own))[0] == first[0]
    with torch.no_grad():
        for parameter in own.backbone.stack.parameters():
            parameter.mul_(1.5)
    fresh = without_dropout(model()).train()
    fresh.load_state_dict(own.state_dict())
    assert gradients(own, batch, running(own))[0] == gradients(fresh, batch, running(fresh))[0] != first[0]


def test_only_what_is_trained_has_a_gradient() -> None:
    own = model().train()
    for name, parameter in own.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or "blocks.1.mlp.down" in name)
    names = gradients(own, batches("bert_text_classification")[1], running(own))[2]
    trained = {name for name, p in own.named_parameters() if p.requires_grad}
    assert set(names) == trained


def test_gradients_of_batches_add_up() -> None:
    own = without_dropout(model()).train()
    parts = [batches("bert_text_classification", count)[1] for count in (5, 7)]
    alone = [gradients(own, batch, running(own))[1] for batch in parts]
    for batch in parts:
        with running(own):
            loss = TrainingStep(own)(dict(batch))["loss"]
        loss.backward()
    found = torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None])
    assert torch.allclose(found - alone[1], sum(alone), atol=1e-6)  # the last gradients were still there


def test_evaluation_is_the_same_without_gradients() -> None:
    own = model(hidden_dropout_prob=0.5).eval()
    batch = batches("bert_text_classification")[0]
    with running(own):
        expected = TrainingStep(own)(dict(batch))["logits"]
        with torch.no_grad():
            assert torch.equal(TrainingStep(own)(dict(batch))["logits"], expected)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5])
def test_so_much_is_dropped(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    shape = torch.Size((1000, 1001))
    kept, weights = trained_layers._kept(shape, probability, dtype), torch.rand(shape).to(dtype)
    marked = weights.clone()
    trained_layers._mark_dropped(marked, probability)
    assert set(kept.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(marked.abs(), weights)
    for share in ((kept == 0).float().mean(), marked.signbit().float().mean()):
        assert float(share) == pytest.approx(probability, abs=2e-3)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (HALF, 0.02)])
def test_adding_drops_and_norms(dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(3)
    norm = nn.LayerNorm(16)
    nn.init.normal_(norm.weight)
    x, more = (torch.randn(20, 16).to(dtype).requires_grad_() for _ in range(2))
    torch.manual_seed(5)
    kept = trained_layers._kept(more.shape, 0.25, dtype).float()
    torch.manual_seed(5)
    summed, normed = trained_layers.add_and_norm(x, more, 0.25, norm)
    wide, wide_more = (part.detach().float().requires_grad_() for part in (x, more))
    expected = wide + wide_more * kept / 0.75
    weights = torch.randn(20, 16)
    own = torch.autograd.grad((summed * 0.5 + normed * weights).sum(), [x, more, norm.weight, norm.bias])
    theirs = torch.autograd.grad(
        (expected * 0.5 + norm(expected) * weights).sum(), [wide, wide_more, norm.weight, norm.bias]
    )
    assert torch.allclose(summed.float(), expected, atol=2.5 * bound)
    for a, b in zip(own, theirs, strict=True):
        assert float((a.float() - b).norm() / b.norm()) < bound


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (HALF, 0.03)])
def test_attention_is_attention(causal: bool, dropout: float, dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(3)
    heads, channels, span = 3, 8, torch.tensor([[1, 1, 1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 2, 2, 2]])
    parts = torch.randn(2, 8, 3 * heads * channels).to(dtype)
    with rows_of_texts(span):
        tokens, packed = pack(parts, Context(causal=causal), "all")
    tokens = tokens.detach().requires_grad_()
    torch.manual_seed(5)
    found = trained_layers.attend(tokens, heads, 0.3, dropout, packed.buckets)
    torch.manual_seed(5)
    signs = []
    for bucket in packed.buckets:
        shape = torch.Size((bucket.count * heads, bucket.length, bucket.length))
        marked = torch.ones(shape, dtype=dtype)
        if dropout:
            trained_layers._mark_dropped(marked, dropout)
        signs += list((marked > 0).float().unflatten(0, (bucket.count, heads)))
    wide = tokens.detach().float().requires_grad_()
    mask = span_mask(span)[:, None]
    if causal:
        mask = mask & torch.ones(8, 8, dtype=torch.bool).tril()
    rows = wide.new_zeros(16, wide.size(1)).index_copy(0, packed.places, wide).view(2, 8, 3, heads, channels)
    q, k, v = rows.permute(2, 0, 3, 1, 4)
    weights = torch.nan_to_num((q @ k.mT * 0.3).masked_fill(~mask, float("-inf")).softmax(-1))
    if dropout:
        # The texts, shorter first: where each of them is.
        ends = sorted(
            ((row, number) for row in (0, 1) for number in (1, 2)), key=lambda at: int((span[at[0]] == at[1]).sum())
        )
        keep = torch.ones_like(weights)
        for (row, number), own in zip(ends, signs, strict=True):
            here = (span[row] == number).nonzero()[:, 0]
            keep[row, :, here[0] : here[-1] + 1, here[0] : here[-1] + 1] = own[:, : len(here), : len(here)]
        weights = weights * keep / (1 - dropout)
    expected = (weights @ v).transpose(1, 2).flatten(2).flatten(0, 1)[packed.places]
    assert float(((found.float() - expected).norm() / expected.norm()).detach()) < (0.02 if dtype == HALF else bound)
    direction = torch.randn_like(expected)
    (own,) = torch.autograd.grad((found.float() * direction).sum(), tokens)
    (theirs,) = torch.autograd.grad((expected * direction).sum(), wide)
    assert float((own.float() - theirs).norm() / theirs.norm()) < bound


def test_gradients_of_weights() -> None:
    layers = [nn.Linear(8, 16), nn.Linear(8, 4, bias=False)]
    for tokens in (1, 64, 150):
        x = torch.randn(tokens, 8).bfloat16().requires_grad_()
        direction = torch.randn(tokens, 20).bfloat16()
        wanted = [x, layers[0].weight, layers[1].weight, layers[0].bias]
        found = torch.autograd.grad((trained_layers.linear(x, *layers) * direction).sum(), wanted)
        beside = torch.cat([layer(x.float()) for layer in layers], 1)
        for a, b in zip(found, torch.autograd.grad((beside * direction).sum(), wanted), strict=True):
            assert a.is_contiguous()
            assert F.cosine_similarity(a.float().flatten(), b.float().flatten(), 0) > 0.999


def test_a_weight_that_changes_before_its_gradient_is_told() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(3, 4).bfloat16()
    y = trained_layers.linear(x, layer)
    with torch.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_are_those_of_the_weights_that_were_used() -> None:
    """Whatever stands in the layer when they are computed, as after `torch.func.functional_call`."""
    own, batch = without_dropout(model()).train(), batches("bert_text_classification")[0]
    others = {name: (p.detach() * 1.5).requires_grad_() for name, p in own.named_parameters()}
    found = []
    for context in (nullcontext(), running(own, None)):
        with context:
            given = {f"model.{name}": weight for name, weight in others.items()}
            loss = torch.func.functional_call(TrainingStep(own), given, (dict(batch),))["loss"]
        found.append(torch.autograd.grad(loss, list(others.values())))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_of_gradients_are_those_of_modules() -> None:
    """A model of one's own may ask for them in its loss."""
    own, batch = without_dropout(model()).train(), batches("bert_text_classification")[0]
    weight, found = own.backbone.embed.tokens.weight, []
    for context in (nullcontext(), running(own, None)):
        with sdpa_kernel(SDPBackend.MATH), context:
            loss = TrainingStep(own)(dict(batch))["loss"]
            (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
            found.append(torch.autograd.grad(gradient.square().sum(), weight)[0])
    assert torch.allclose(*found, atol=1e-6)


def test_torch_func_has_its_gradients() -> None:
    own, batch = without_dropout(model()).train(), batches("bert_text_classification")[0]
    weights = {f"model.{name}": p.detach() for name, p in own.named_parameters()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(TrainingStep(own), weights, (dict(batch),))["loss"]

    expected = torch.func.grad(loss)(weights)
    with running(own, None):
        found = torch.func.grad(loss)(weights)
    assert all(torch.equal(found[name], expected[name]) for name in weights)


def test_a_backward_pass_under_autocast_is_the_same() -> None:
    own, batch = without_dropout(model()).train(), batches("bert_text_classification")[0]
    weight, found = own.backbone.stack.blocks[0].attn.q.weight, []
    for under in (nullcontext(), torch.autocast("cpu", HALF)):
        with running(own, None):
            loss = TrainingStep(own)(dict(batch))["loss"]
        with under:
            found.append(torch.autograd.grad(loss, weight)[0])
    assert F.cosine_similarity(*(gradient.flatten() for gradient in found), dim=0) > 0.999


def test_a_layer_used_twice_has_the_sum_of_gradients() -> None:
    layer, x = nn.Linear(8, 8), torch.randn(40, 8).bfloat16()
    trained_layers.linear(trained_layers.linear(x, layer), layer).float().square().sum().backward()
    found = layer.weight.grad
    layer.weight.grad = None
    layer(layer(x.float())).square().sum().backward()
    assert F.cosine_similarity(found.flatten(), layer.weight.grad.flatten(), 0) > 0.999


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("any_precision")
def test_resuming_is_exact(tmp_path: Path, precision: str | None) -> None:
    fields = {"mixed_precision": precision, "packed": True, "save_steps": 2}
    dropping = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    whole = trainer(tmp_path / "whole", model(**dropping), max_steps=4, **fields)
    whole.train()
    parts = trainer(tmp_path / "parts", model(**dropping), max_steps=4, num_epochs=9, **fields)
    parts.train()
    again = trainer(tmp_path / "again", model(seed=4, **dropping), max_steps=4, **fields)
    again.train(resume_from_checkpoint=str(parts.checkpoints_path / "00000002"))
    first, second = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    stack = next(part for part in again.model.modules() if isinstance(part, Stack))
    assert stacks_in(again.model) == 1 and stack.training is False
