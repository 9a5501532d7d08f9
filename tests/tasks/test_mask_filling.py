"""Mask filling: from scores to proposals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_model, tiny_tokenizer

from hezar_like import Model
from hezar_like.errors import InputError, OptionError, PreprocessorError
from hezar_like.outputs import ClassifierOutput


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("bert_mask_filling")


def filled(model: Model, text: str, best: list[list[str]], **options: Any) -> Any:
    """Proposals for a text whose masks score these tokens, best first."""
    batch = model.preprocess([text])
    logits = torch.zeros(len(best), model.config.vocab_size)
    for row, tokens in enumerate(best):
        for rank, token in enumerate(tokens):
            logits[row, model.preprocessor.tokenizer.token_to_id(token)] = 20.0 - rank
    (result,) = model.post_process(ClassifierOutput(logits=logits), batch, **options)
    return result


def test_one_mask(model: Model) -> None:
    proposals = filled(model, "the [MASK] sat", [["cat", "fox"]], top_k=2)
    assert [(p["token"], p["sequence"]) for p in proposals] == [("cat", "the cat sat"), ("fox", "the fox sat")]
    assert [p["token_id"] for p in proposals] == model.preprocessor.tokenizer.convert_tokens_to_ids(["cat", "fox"])
    assert proposals[0]["score"] > proposals[1]["score"] > 0
    assert proposals[0]["score"] / proposals[1]["score"] == pytest.approx(2.71828, abs=1e-3)


def test_one_proposal_by_default(model: Model) -> None:
    assert [p["token"] for p in filled(model, "the [MASK] sat", [["cat", "fox"]])] == ["cat"]


def test_several_masks(model: Model) -> None:
    first, second = filled(model, "the [MASK] and the [MASK]", [["cat", "fox"], ["fox", "cat"]], top_k=2)
    # A proposal for one mask shows the best token in the other.
    assert [p["sequence"] for p in first] == ["the cat and the fox", "the fox and the fox"]
    assert [p["sequence"] for p in second] == ["the cat and the fox", "the cat and the cat"]


def test_as_many_proposals_as_there_are_tokens(model: Model) -> None:
    (proposals,) = model.predict("the [MASK] sat", top_k=10**6)
    assert len(proposals) == model.config.vocab_size
    scores = [proposal["score"] for proposal in proposals]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)


def test_a_batch_with_different_numbers_of_masks(model: Model) -> None:
    texts = ["[MASK]", "a [MASK] b [MASK] c", "the quick [MASK] fox"]
    one, two, three = model.predict(texts, top_k=3)
    assert [len(one), len(two), len(three)] == [3, 2, 3] and [len(mask) for mask in two] == [3, 3]
    for text, result in zip(texts, (one, two, three), strict=True):
        (alone,) = model.predict(text, top_k=3)
        assert str(alone).count("'token_id'") == str(result).count("'token_id'")


def test_masks_in_windows_of_a_long_text(model: Model) -> None:
    text = "[MASK] " + "the dog " * 60 + "[MASK]"
    (result,) = model.predict(text, long_text="window")
    assert len(result) == 2
    assert result[0][0]["sequence"].count("the dog") == 60


def test_only_masks_are_scored_and_scores_are_those_of_forward(model: Model) -> None:
    batch = model.preprocess(["the [MASK] sat"])
    with torch.inference_mode():
        everywhere, there = model(**batch).logits, model.infer(batch).logits
    place = (batch["token_ids"] == model.preprocessor.tokenizer.mask_token_id).nonzero()
    assert there.shape == (1, model.config.vocab_size)
    torch.testing.assert_close(there[0], everywhere[tuple(place[0])])


def test_a_special_token_in_the_text_is_not_in_the_way(model: Model) -> None:
    assert model.predict("[SEP] the [MASK] [CLS] [PAD]")[0][0]["token_id"] >= 0


@pytest.mark.parametrize("texts", [["[MASK]", "no mask"], ["a [MASK]", ""], ["[MASK]", "the dog " * 60 + "[MASK]"]])
def test_a_text_without_a_mask(model: Model, texts: list[str]) -> None:
    with pytest.raises(InputError, match=r"item 1 of the inputs has no \[MASK\] .* Put \[MASK\] where"):
        model.predict(texts)


@pytest.mark.parametrize("top_k", [0, -1, True, 1.0, "2", None])
def test_top_k_that_is_none(model: Model, top_k: Any) -> None:
    with pytest.raises(OptionError, match=r"top_k is .*; it must be a positive integer"):
        model.predict("[MASK]", top_k=top_k)


def test_a_tokenizer_without_a_mask() -> None:
    model = tiny_model("bert_mask_filling")
    tokenizer = tiny_tokenizer()
    model.preprocessor = type(tokenizer)(tokenizer.config, backend=tokenizer.backend, mask_token=None)
    with pytest.raises(PreprocessorError, match="no mask token"):
        model.predict("a [MASK]")
