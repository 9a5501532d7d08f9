"""Attention, masks, positions, and what batching must never change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import inputs_for, text_models, texts_for, tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.backbones import Backbone, Decoder
from hezar_like.backbones.base import places
from hezar_like.errors import InputError
from hezar_like.layers import Attention, attention_mask_to_look
from hezar_like.registry import families_registry, models_registry

TOLERANCE = 1e-5
READS_WORDS = [name for name in text_models() if models_registry[name].module_class.reads_words]
FAMILIES = [name for name in text_models() if models_registry[name].module_class.task == "backbone"]
LIMITED = [name for name in FAMILIES if tiny_model(name).backbone.max_tokens]
PLACED = [name for name in FAMILIES if issubclass(families_registry[name].module_class.backbone, Backbone | Decoder)]
# With dropout everywhere, whatever the defaults.
DROPOUTS = {
    name: {field: 0.3 for field in models_registry[name].config_class.fields() if "drop" in field} for name in FAMILIES
}
ids = torch.tensor([[2, 20, 30, 40, 50, 3], [2, 60, 70, 3, 0, 0]])
mask = ids.ne(0).long()


@pytest.fixture(params=text_models())
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


def states(model: Model, *args: Any, **options: Any) -> Tensor:
    with torch.no_grad():
        return model(*args, **options).last_hidden_state


def main_output(output: Any) -> Tensor:
    return next(value for value in output.values() if isinstance(value, Tensor))


# -- attention and masks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [None, mask[:, None, None, :].bool()], ids=["unmasked", "masked"])
def test_attention_with_and_without_trace(look: Tensor | None) -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4).eval()
    x = torch.randn(2, 6, 32)
    traced: list[Tensor] = []
    assert difference(attention(x, mask=look, probabilities=traced), attention(x, mask=look)) <= TOLERANCE
    (probabilities,) = traced
    assert probabilities.shape == (2, 4, 6, 6)
    assert probabilities.sum(-1).allclose(torch.ones(2, 4, 6))
    if look is not None:
        assert probabilities[1, :, :, 4:].abs().max() == 0


def test_traces_do_not_change_the_result(backbone: Model) -> None:
    plain = states(backbone, ids, mask)
    with torch.no_grad():
        traced = backbone(ids, mask, output_hidden_states=True, output_attentions=True)
    assert difference(traced.last_hidden_state, plain) <= TOLERANCE  # of an encoder with a decoder, the encoder's
    assert len(traced.hidden_states) == backbone.config.num_hidden_layers + 1
    assert len(traced.attentions) == backbone.config.num_hidden_layers
    assert torch.equal(traced.hidden_states[-1], traced.last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_forms_of_masks(backbone: Model, dtype: torch.dtype) -> None:
    """All forms are the same to tokens that are no padding; what padding itself sees, only the larger ones say."""
    expected, real = states(backbone, ids, mask), mask.bool()
    given = mask.to(dtype)
    rows, heads = given[:, None, :], given[:, None, None, :]
    for form in (given, rows.expand(2, 6, 6), heads, heads.expand(2, 4, 6, 6)):
        assert difference(states(backbone, ids, form)[real], expected[real]) <= TOLERANCE
    assert difference(states(backbone, ids[:1]), expected[:1]) <= TOLERANCE


@pytest.mark.parametrize("shape", [(6,), (1, 1, 1, 1, 6)])
def test_other_forms_of_masks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        attention_mask_to_look(torch.ones(shape))


def test_a_mask_of_queries_and_keys(backbone: Model) -> None:
    """With a causal mask, a token sees nothing of those after it."""
    causal = torch.ones(6, 6).tril()[None]
    first, changed = ids[:1], ids[:1].clone()
    changed[0, 4] = 99
    before, after = states(backbone, first, causal), states(backbone, changed, causal)
    assert difference(before[:, :4], after[:, :4]) <= TOLERANCE
    assert difference(before[:, 4:], after[:, 4:]) > 1e-3


def test_padding_is_not_seen(backbone: Model) -> None:
    other = torch.where(mask.bool(), ids, 77)
    assert difference(states(backbone, ids, mask)[mask.bool()], states(backbone, other, mask)[mask.bool()]) <= TOLERANCE


# -- positions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", [0, 1, 5])
def test_positions_of_roberta(pad: int) -> None:
    """They count from pad + 1 and leave out padding, wherever it is; padding has its own."""
    roberta = tiny_model("roberta", pad_token_id=pad)
    rows = torch.tensor([[7, 8, pad, 9, pad], [pad, pad, 7, 8, 9]])
    expected = torch.tensor([[1, 2, 0, 3, 0], [0, 0, 1, 2, 3]]) + pad
    assert torch.equal(roberta.backbone.positions(rows), expected)
    assert roberta.backbone.max_tokens == 48 - pad - 1


def test_padding_on_the_left_changes_nothing_for_roberta() -> None:
    roberta = tiny_model("roberta")
    left = torch.tensor([[0, 0, 2, 60, 70, 3]])
    assert difference(states(roberta, left, left.ne(0).long())[:, 2:], states(roberta, ids[1:, :4])) <= TOLERANCE


@pytest.mark.parametrize("name", PLACED)
def test_positions_can_be_given(name: str) -> None:
    backbone = tiny_model(name)
    own = places(ids, 0, mask) if isinstance(backbone.backbone, Decoder) else backbone.backbone.positions(ids)
    positions = own.expand_as(ids)
    expected = states(backbone, ids, mask)
    assert difference(states(backbone, ids, mask, position_ids=positions), expected) == 0.0
    assert difference(states(backbone, ids, mask, position_ids=positions.flip(1)), expected) > 1e-2


def test_vectors_in_place_of_tokens(backbone: Model) -> None:
    vectors = backbone.backbone.embed.tokens(ids[:1])
    assert difference(states(backbone, inputs_embeds=vectors), states(backbone, ids[:1])) <= TOLERANCE
    for wrong in ({}, {"token_ids": ids[:1], "inputs_embeds": vectors}):
        with pytest.raises(ValueError, match="exactly one of"):
            backbone(**wrong)


@pytest.mark.parametrize("name", LIMITED)
def test_more_tokens_than_positions(name: str) -> None:
    backbone = tiny_model(name)
    most = backbone.backbone.max_tokens
    assert states(backbone, torch.full((1, most), 7)).shape[1] == most
    with pytest.raises(ValueError, match=f"has {most + 1} tokens, but this model has positions for {most}"):
        backbone(torch.full((1, most + 1), 7))


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(LIMITED)))
def test_models_without_a_limit(name: str) -> None:
    assert states(tiny_model(name), torch.full((1, 300), 7)).shape[1] == 300


# -- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_gives_what_single_inputs_give(model: Model) -> None:
    texts = texts_for(model)
    singles = [model.predict(text)[0] for text in texts]
    for batch_size in ("auto", 1, 2, 4, 100):
        assert difference(model.predict(texts, batch_size=batch_size), singles) <= TOLERANCE
    assert difference(model.predict(iter(texts), batch_size=2), singles) <= TOLERANCE
    assert difference(model.predict(reversed(texts))[::-1], singles) <= TOLERANCE
    assert model.predict([]) == []


def test_forward_outputs_of_a_batch_and_of_singles(model: Model) -> None:
    """Without post_process, one entry per input comes back too, as far as rows have no padding."""
    text = texts_for(model)[0]
    one = model.predict(text, post_process=False)
    assert len(one) == 1
    assert difference(model.predict([text] * 3, post_process=False), one * 3) <= TOLERANCE


@pytest.mark.parametrize("name", READS_WORDS)
def test_words(name: str) -> None:
    """A list of strings is a text that was split into words."""
    model = tiny_model(name)
    assert difference(model.predict([["a", "cat", "sat"]]), model.predict(["a cat sat"])) <= TOLERANCE


@pytest.mark.parametrize("name", sorted(set(text_models()) - set(READS_WORDS)))
def test_pairs(name: str) -> None:
    """A pair has one result, however it is written, and both texts count."""
    model = tiny_model(name)
    first, second, third = texts_for(model)[:3]
    results = model.predict([(first, second), {"text": first, "text_pair": second}, [first, second]])
    assert len(results) == 3 and difference(results, [results[0]] * 3) <= TOLERANCE
    (pair,) = model.preprocess([(first, second)])["token_ids"].tolist()
    (other,) = model.preprocess([(first, third)])["token_ids"].tolist()
    assert pair != other and len(model.predict([(first, second), (first, third), first])) == 3


# -- types and modes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16, "float64"])
def test_other_types_predict(model: Model, dtype: Any, tmp_path: Any) -> None:
    model.save(tmp_path)
    other = Model.load(tmp_path, device="cpu", dtype=dtype)
    assert str(other.dtype).removeprefix("torch.") == str(dtype).removeprefix("torch.")
    with torch.no_grad():
        exact, rough = (main_output(m(**inputs_for(m))) for m in (model, other))
    assert difference(rough, exact) <= {"float64": 1e-4}.get(dtype, 0.5)
    texts = texts_for(model)
    assert len(other.predict(texts)) == len(other.predict(texts, post_process=False)) == len(texts)


def test_a_model_in_training(model: Model) -> None:
    """Predictions have no dropout, gradients or memory of the mode, and leave the mode as it was."""
    texts = texts_for(model)
    expected = model.predict(texts)
    model.train()
    assert difference(model.predict(texts), expected) == 0.0
    assert model.training and all(part.training for part in model.modules())
    with pytest.raises(InputError, match=f"item {len(texts)} "):
        model.predict([*texts, 5])
    assert model.training


def test_a_frozen_part_stays_frozen(model: Model) -> None:
    texts = texts_for(model)
    expected = model.predict(texts)
    model.train()
    model.backbone.eval()
    assert difference(model.predict(texts), expected) == 0.0
    assert model.training and not model.backbone.training


@pytest.mark.parametrize("name", [name for name in FAMILIES if DROPOUTS[name]])
def test_dropout_is_only_for_training(name: str) -> None:
    backbone = tiny_model(name, **DROPOUTS[name])
    first, second = states(backbone, ids, mask), states(backbone, ids, mask)
    assert difference(first, second) == 0.0
    backbone.train()
    assert difference(states(backbone, ids, mask), first) > 1e-3


def test_gradients_flow_after_predictions(model: Model) -> None:
    model.predict(texts_for(model))
    main_output(model(**inputs_for(model))).square().sum().backward()
    assert model.backbone.embed.tokens.weight.grad.abs().max() > 0
