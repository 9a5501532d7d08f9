"""Texts with spans that may nest: what GlobalPointer learns from, and what it is measured by."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_model, tiny_tokenizer

from hezar_like import Model, build_dataset, build_metric, build_preprocessor
from hezar_like.errors import DataError, OptionError
from hezar_like.training import Trainer, TrainerConfig

TEXT = "the quick cat of the lazy dog"
SPANS = [
    {"start": 4, "end": 14, "label": "ANIMAL"},  # with a space behind it
    {"start": 0, "end": 29, "label": "GROUP"},
    {"start": 17, "end": 29, "label": "ANIMAL"},
]
WORDS = TEXT.split()
WORD_SPANS = [(1, 3, "ANIMAL"), (0, 7, "GROUP"), (4, 7, "ANIMAL")]
ROWS = [
    {"text": TEXT, "spans": SPANS},
    {"text": "a box", "spans": []},
    {"text": "lazy zebras", "spans": [{"start": 5, "end": 11, "label": "ANIMAL"}]},
]


def dataset(rows: Any = ROWS, **fields: Any) -> Any:
    return build_dataset("span_labeling", rows=rows, preprocessor=tiny_tokenizer(max_length=None), **fields)


def labeler(data: Any, **fields: Any) -> Model:
    torch.manual_seed(0)
    own = tiny_model("bert_sequence_labeling_global_pointer", num_labels=None, id2label=data.id2label, inner_dim=8, **fields)
    own.preprocessor = data.preprocessor
    return own


def texts_of(data: Any, sample: dict[str, Any]) -> list[tuple[str, str]]:
    """The spans of a sample as its tokenizer writes them."""
    return [
        (data.tokenizer.decode([sample["token_ids"][first : last + 1]])[0], data.id2label[label])
        for first, last, label in sample["spans"]
    ]


def test_spans_of_letters_words_and_tags_are_the_same() -> None:
    by_letters = dataset()
    assert by_letters.id2label == {0: "ANIMAL", 1: "GROUP"}
    assert texts_of(by_letters, by_letters[0]) == [("quick cat", "ANIMAL"), (TEXT, "GROUP"), ("the lazy dog", "ANIMAL")]
    spans = [{"start": a, "end": b, "label": label} for a, b, label in WORD_SPANS]
    by_words = dataset([{"tokens": WORDS, "spans": spans}], id2label=by_letters.id2label)
    assert by_words[0] == by_letters[0]
    tags = ["O", "B-ANIMAL", "I-ANIMAL", "O", "B-ANIMAL", "I-ANIMAL", "I-ANIMAL"]
    by_tags = dataset([{"tokens": WORDS, "tags": tags}], id2label=by_letters.id2label)
    assert by_tags[0]["spans"] == [span for span in by_letters[0]["spans"] if span[2] == 0]


def test_a_batch_says_first_and_last_token() -> None:
    data = dataset()
    batch = data.data_collator([data[0], data[2]])
    length = len(data[0]["token_ids"])
    assert batch["labels"].shape == (2, 2, length, length)
    for row, sample in enumerate((data[0], data[2])):
        there = {tuple(place) for place in batch["labels"][row].nonzero().tolist()}
        assert there == {(label, first, last) for first, last, label in sample["spans"]}
    left = copy.deepcopy(tiny_tokenizer(max_length=None))
    left.config.update(padding_side="left")
    shifted = build_dataset("span_labeling", rows=ROWS, preprocessor=left)
    moved = shifted.data_collator([shifted[0], shifted[2]])
    padding = length - len(data[2]["token_ids"])
    assert padding > 0
    assert torch.equal(moved["labels"][1, :, padding:, padding:], batch["labels"][1, :, :-padding, :-padding])


def test_spans_that_are_cut_off_are_told(caplog: pytest.LogCaptureFixture) -> None:
    whole = dataset()
    caplog.set_level(logging.WARNING, "hezar_like")
    cut = dataset(max_length=len(whole[0]["token_ids"]) - 1)
    assert cut[0]["spans"] == [whole[0]["spans"][0]]
    assert "2 spans of the dataset 'span_labeling' lack tokens" in caplog.text


def test_a_model_learns_to_find_them(tmp_path: Path) -> None:
    data = dataset(ROWS * 4)
    own = labeler(data)
    config = TrainerConfig(
        output_dir=str(tmp_path), num_epochs=120, batch_size=6, learning_rate=1e-2, use_cpu=True, save_enabled=False, do_evaluate=False,
        metric_for_best_model="f1",
    )  # fmt: skip
    run = Trainer(own, config, data, data, metrics=[{"name": "spans", "per_class": True}])
    before = run.evaluate()
    run.train()
    after = run.evaluate()
    assert after["evaluation.f1"] == 1.0 > before["evaluation.f1"]
    assert {"evaluation.f1.ANIMAL", "evaluation.recall.GROUP"} <= after.keys()
    found = own.predict([TEXT])[0]
    assert {(r["start"], r["end"], r["label"]) for r in found} == {(4, 13, "ANIMAL"), (0, 29, "GROUP"), (17, 29, "ANIMAL")}
    scores = run.predict(data)
    for sample, row in zip((data[i] for i in range(3)), scores, strict=False):
        length = len(sample["token_ids"])
        assert row.shape == (2, length, length)
    with pytest.raises(OptionError, match="'f1' is of tokens.*use 'spans'"):
        Trainer(own, config, data, data, metrics=["f1"]).evaluate()


def test_spans_are_counted_whole() -> None:
    spans = build_metric("spans", id2label={0: "A", 1: "B"})
    targets = [[(0, 1, "A"), (0, 1, "B")], [(2, 4, "A")]]
    predictions = [[(0, 1, 0), (0, 2, 1)], [(2, 4, 0), (3, 3, 0)]]
    assert spans.compute(predictions, targets) == {"precision": 0.5, "recall": 0.6667, "f1": 0.5714}
    assert spans.compute(predictions, targets, average="macro")["f1"] == pytest.approx(0.4)
    scores, right = torch.full((2, 2, 5, 5), -1.0), torch.zeros(2, 2, 5, 5, dtype=torch.bool)
    for text, (rows, wanted) in enumerate(zip(predictions, targets, strict=True)):
        for first, last, label in rows:
            scores[text, label, first, last] = 0.1
        for first, last, name in wanted:
            right[text, "AB".index(name), first, last] = True
    for text in range(2):
        spans.update(scores[text : text + 1], right[text : text + 1])
    assert spans.compute() == spans.compute(predictions, targets)
    with pytest.raises(DataError, match="for both"):
        spans.compute(scores, right[:, :, :4])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a cat", "spans": [{"start": 2, "end": 9, "label": "A"}]}], "row 0: the span 2 to 9 is not in the text of length 5"),
        ([{"text": "a cat", "spans": [{"start": 2, "end": 2, "label": "A"}]}], "the span 2 to 2"),
        ([{"text": "a cat", "spans": [{"start": 2, "label": "A"}]}], "is no span. Give start, end and label"),
        ([{"text": "a cat", "spans": [[0, 1, "A"]]}], "is no span"),
        ([{"text": "a cat"}], "has no 'spans'"),
        ([{"text": "a cat", "spans": []}], "no row has a span"),
        ([{"text": 5, "spans": []}], "row 0: 'text' is int, but must be a text"),
        ([{"text": "a cat", "spans": {"start": 0, "end": 1, "label": "A"}}], "row 0: 'spans' is dict, but must be a list"),
        ([{"tokens": "a cat", "tags": ["B-A", "O"]}], "row 0: 'tokens' is str, but must be a list"),
        ([{"tokens": ["a"], "tags": "O"}], "row 0: 'tags' is str, but must be a list"),
        ([{"tokens": ["a"], "tags": ["B-A", "O"]}], "has 1 words, but 2 labels"),
        ([*ROWS, {"tokens": ["a"], "spans": []}], "row 3: some rows have a text, and others words"),
    ],
)
def test_bad_rows_are_told(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        dataset(rows)


def test_letters_that_a_normalizer_moves() -> None:
    model = labeler(dataset())
    model.preprocessor = [model.preprocessor.tokenizer, build_preprocessor("text_normalizer")]
    data = build_dataset("span_labeling", rows=ROWS, preprocessor=model.preprocessor)
    with pytest.raises(DataError, match="moves the letters"):
        data[0]
