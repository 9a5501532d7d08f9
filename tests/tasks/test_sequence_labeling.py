"""Sequence labeling: from scores to tokens, words and entities."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_fields, tiny_model, tiny_tokenizer

from hezar_like import Model, build_model
from hezar_like.errors import InputError, OptionError
from hezar_like.outputs import ClassifierOutput
from hezar_like.registry import models_registry

KINDS = ["wordpiece_tokenizer", "bpe_tokenizer", "sentencepiece_bpe_tokenizer", "sentencepiece_unigram_tokenizer"]
IOB = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "L-LOC", "U-LOC", "M-LOC", "W-LOC"]
POS = ["NOUN", "VERB", "DET", "ADJ"]


def labeler(labels: list[str], **fields: Any) -> Model:
    return tiny_model("bert_sequence_labeling", num_labels=None, id2label=dict(enumerate(labels)), **fields)


@pytest.fixture(scope="module")
def entities() -> Model:
    return labeler(IOB)


@pytest.fixture(scope="module")
def parts_of_speech() -> Model:
    return labeler(POS)


def records_of(model: Model, item: Any, word_labels: list[str], **options: Any) -> list[dict[str, Any]]:
    """Records of one input whose words score these labels, with all of their tokens."""
    batch = model.preprocess([item])
    (parsed,) = batch.inputs
    names = list(model.config.id2label.values())
    logits = torch.zeros(1, len(batch["token_ids"][0]), len(names))
    for column, word in enumerate(parsed.encoded.word_ids):
        if word is not None and not parsed.encoded.special[column]:
            logits[0, column, names.index(word_labels[word])] = 10.0
    (records,) = model.post_process(ClassifierOutput(logits=logits), batch, **options)
    return records


def short(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(record["token"], record["label"]) for record in records]


def test_one_record_per_token(parts_of_speech: Model) -> None:
    text = "the zebras jump"
    records = records_of(parts_of_speech, text, ["DET", "NOUN", "VERB"])
    tokens = parts_of_speech.preprocessor.tokenizer(text, add_special_tokens=False, return_tokens=True)["tokens"]
    assert [record["token"] for record in records] == tokens and len(tokens) > 3
    assert records[0]["label"] == "DET" and records[1]["label"] == "NOUN" and records[-1]["label"] == "VERB"
    for record in records:
        assert record["token"].removeprefix("##") == text[record["start"] : record["end"]]
        assert 0.99 < record["score"] <= 1


def test_words(parts_of_speech: Model) -> None:
    records = records_of(parts_of_speech, "the  zebras\tjump!", ["DET", "NOUN", "VERB", "ADJ"], aggregate="word")
    assert short(records) == [("the", "DET"), ("zebras", "NOUN"), ("jump", "VERB"), ("!", "ADJ")]
    assert [(record["start"], record["end"]) for record in records] == [(0, 3), (5, 11), (12, 16), (16, 17)]


def test_a_word_has_the_mean_of_its_tokens(parts_of_speech: Model) -> None:
    batch = parts_of_speech.preprocess(["zebras"])
    count = len(batch["token_ids"][0]) - 2
    assert count > 1
    logits = torch.full((1, count + 2, 4), -100.0)
    logits[0, :, 1] = 0.0
    logits[0, 1] = torch.tensor([0.0, -100.0, -100.0, -100.0])  # the first token says NOUN, the others VERB
    ((word,),) = parts_of_speech.post_process(ClassifierOutput(logits=logits), batch, aggregate="word")
    assert word["label"] == ("VERB" if count > 2 else "NOUN")
    assert word["score"] == pytest.approx((count - 1) / count)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], [("a cat", "PER"), ("on", "LOC")]),
        (["B-PER", "B-PER", "I-PER", "O"], [("a", "PER"), ("cat sat", "PER")]),
        (["I-PER", "I-PER", "I-LOC", "O"], [("a cat", "PER"), ("sat", "LOC")]),
        (["B-PER", "I-LOC", "I-PER", "O"], [("a", "PER"), ("cat", "LOC"), ("sat", "PER")]),
        (["B-PER", "I-PER", "E-PER", "S-PER"], [("a cat sat", "PER"), ("on", "PER")]),
        (["S-PER", "S-PER", "E-PER", "I-PER"], [("a", "PER"), ("cat", "PER"), ("sat", "PER"), ("on", "PER")]),
        (["U-LOC", "B-LOC", "I-LOC", "L-LOC"], [("a", "LOC"), ("cat sat on", "LOC")]),
        (["B-LOC", "M-LOC", "L-LOC", "W-LOC"], [("a cat sat", "LOC"), ("on", "LOC")]),
        (["I-PER", "O", "I-PER", "O"], [("a", "PER"), ("sat", "PER")]),
        (["O", "O", "O", "O"], []),
    ],
)
def test_entities(entities: Model, labels: list[str], expected: list[tuple[str, str]]) -> None:
    text = "a cat sat on"
    records = records_of(entities, text, labels, aggregate="entity")
    assert short(records) == expected
    assert all(text[record["start"] : record["end"]] == record["token"] for record in records)
    assert short(records_of(entities, text.split(), labels, aggregate="entity")) == expected


def test_labels_without_a_scheme_merge_with_equal_neighbours(parts_of_speech: Model) -> None:
    records = records_of(parts_of_speech, "a cat dog sat", ["DET", "NOUN", "NOUN", "VERB"], aggregate="entity")
    assert short(records) == [("a", "DET"), ("cat dog", "NOUN"), ("sat", "VERB")]


def test_given_words_get_one_record_each(entities: Model) -> None:
    words = ["zebras", "", "sat", "\x00", "U.S."]
    records = entities.predict([words], aggregate="word")[0]
    assert [(r["token"], r["start"], r["end"]) for r in records] == [
        ("zebras", 0, 6), ("", 7, 7), ("sat", 8, 11), ("\x00", 12, 13), ("U.S.", 14, 18),
    ]  # fmt: skip


def test_words_that_were_not_read_are_no_entities() -> None:
    model = labeler(["B-PER", "O"])  # the label that a row of zeros would choose is an entity
    (records,) = model.predict([["", "\x00"]], aggregate="word")
    assert [(record["label"], record["score"]) for record in records] == [("O", 0.0)] * 2
    assert model.predict([["", "\x00"]], aggregate="entity") == [[]]
    (cut,) = model.predict([["dog"] * 100], aggregate="word", long_text="truncate")
    assert len(cut) == 100 and {record["label"] for record in cut[60:]} == {"O"}


def test_long_texts_are_read_whole_by_default(entities: Model) -> None:
    text = "the dog " * 60
    (records,) = entities.predict(text, aggregate="word")
    assert [record["token"] for record in records] == text.split()
    (records,) = entities.predict([text.split()], aggregate="word")
    assert [record["token"] for record in records] == text.split()


def test_skipped_tokens() -> None:
    model = labeler(POS, prediction_skip_tokens=["the", "[UNK], [PAD]"])
    assert model.config.prediction_skip_tokens == ["the", "[UNK]", "[PAD]"]
    (records,) = model.predict("the cat the")
    assert "the" not in [record["token"] for record in records] and records


@pytest.mark.parametrize("aggregate", [None, "word", "entity"])
def test_columns_that_are_not_wanted(parts_of_speech: Model, aggregate: str | None) -> None:
    (records,) = parts_of_speech.predict("the cat", aggregate=aggregate, return_offsets=False, return_scores=False)
    assert records
    for record in records:
        assert (record["start"], record["end"], record["score"]) == (None, None, None)
        assert record["token"] and record["label"]


@pytest.mark.parametrize("text", ["", "   ", "\u200c"])
def test_nothing_to_label(entities: Model, text: str) -> None:
    for aggregate in (None, "word", "entity"):
        assert all(record["token"].strip() for record in entities.predict(text, aggregate=aggregate)[0])


def test_special_tokens_that_stand_in_the_text_are_text(entities: Model) -> None:
    text = "a [SEP] cat [MASK] [CLS]"
    (records,) = entities.predict(text, aggregate="word")
    assert [record["token"] for record in records] == text.split()


def test_refused(entities: Model) -> None:
    with pytest.raises(OptionError, match="aggregate is 'words'; it must be None, 'word' or 'entity'"):
        entities.predict("a", aggregate="words")
    for aggregate in (None, "word", "entity"):
        with pytest.raises(InputError, match="item 1 of the inputs is a pair of texts"):
            entities.predict(["a", {"text": "a", "text_pair": "b"}], aggregate=aggregate)
    with pytest.raises(InputError, match="item 2 of the inputs"):
        entities.predict(["a", "b", ["c"]])


TEXT = st.text(st.sampled_from("ab eZ .,!?-\t\n\u200cسلامéÅ中文😀👍🏽ﬁ١"), max_size=40)


@cache
def with_tokenizer(kind: str) -> Model:
    tokenizer = tiny_tokenizer(kind)
    fields = tiny_fields(
        models_registry["bert_sequence_labeling"].config_class, vocab_size=len(tokenizer), num_labels=4
    )
    model = build_model("bert_sequence_labeling", **fields).eval()
    model.preprocessor = tokenizer
    return model


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(text=TEXT)
def test_offsets_point_at_the_token(kind: str, text: str) -> None:
    for aggregate in ("word", "entity"):
        (records,) = with_tokenizer(kind).predict(text, aggregate=aggregate)
        last = 0
        for record in records:
            assert text[record["start"] : record["end"]] == record["token"] == record["token"].strip()
            assert record["start"] >= last
            last = record["end"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(words=st.lists(TEXT, max_size=8))
def test_given_words_always_get_one_record_each(kind: str, words: list[str]) -> None:
    (records,) = with_tokenizer(kind).predict([words], aggregate="word")
    assert [record["token"] for record in records] == [word.strip() for word in words]
    assert all(" ".join(words)[record["start"] : record["end"]] == record["token"] for record in records)
