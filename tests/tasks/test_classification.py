"""Text classification: from scores to labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.errors import ConfigError
from hezar_like.outputs import ClassifierOutput

NAMES = {0: "bad", 1: "fair", 2: "good"}


def labels_of(model: Model, logits: list[list[float]], **options: Any) -> list[list[dict[str, Any]]]:
    """What post_process makes of these scores, one row per text."""
    batch = model.preprocess(["a"] * len(logits))
    return model.post_process(ClassifierOutput(logits=torch.tensor(logits)), batch, **options)


def names_of(results: list[list[dict[str, Any]]]) -> list[list[str]]:
    return [[record["label"] for record in records] for records in results]


@pytest.fixture(scope="module")
def single() -> Model:
    return tiny_model("bert_text_classification", num_labels=None, id2label=NAMES)


@pytest.fixture(scope="module")
def several() -> Model:
    return tiny_model(
        "bert_text_classification", num_labels=None, id2label=NAMES, problem_type="multi_label_classification"
    )


@pytest.fixture(scope="module")
def number() -> Model:
    return tiny_model("bert_text_classification", num_labels=1)


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, ["good"]), (2, ["good", "bad"]), (3, ["good", "bad", "fair"]), (99, ["good", "bad", "fair"])],
)
def test_top_k(single: Model, top_k: int, expected: list[str]) -> None:
    assert names_of(labels_of(single, [[1.0, 0.0, 2.0]], top_k=top_k)) == [expected]


def test_default_is_the_best_label_and_none_is_all(single: Model) -> None:
    assert names_of(labels_of(single, [[1.0, 0.0, 2.0], [3.0, 0.0, 2.0]])) == [["good"], ["bad"]]
    everything = labels_of(single, [[1.0, 0.0, 2.0]], top_k=None)[0]
    assert sum(record["score"] for record in everything) == pytest.approx(1)
    assert [record["score"] for record in everything] == pytest.approx([0.66524, 0.24473, 0.09003], abs=1e-5)


def test_threshold_leaves_out(single: Model) -> None:
    assert names_of(labels_of(single, [[1.0, 0.0, 2.0]], top_k=None, threshold=0.2)) == [["good", "bad"]]
    assert labels_of(single, [[1.0, 0.0, 2.0]], threshold=0.9) == [[]]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [("none", [2.0, 1.0, 0.0]), ("sigmoid", [0.8808, 0.7311, 0.5]), ("softmax", [0.66524, 0.24473, 0.09003])],
)
def test_scores(single: Model, scores: str, expected: list[float]) -> None:
    records = labels_of(single, [[1.0, 0.0, 2.0]], scores=scores, top_k=None)[0]
    assert [record["score"] for record in records] == pytest.approx(expected, abs=1e-4)


def test_several_labels_at_once(several: Model) -> None:
    assert names_of(labels_of(several, [[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0]])) == [["good", "bad"], []]
    assert names_of(labels_of(several, [[1.0, -1.0, 2.0]], threshold=0.8)) == [["good"]]
    assert names_of(labels_of(several, [[1.0, -1.0, 2.0]], threshold=0.0, top_k=None)) == [["good", "bad", "fair"]]
    assert names_of(labels_of(several, [[1.0, -1.0, 2.0]], top_k=1)) == [["good"]]


def test_regression_gives_the_value(number: Model) -> None:
    assert labels_of(number, [[-3.5], [7.25]]) == [
        [{"label": "LABEL_0", "score": -3.5}],
        [{"label": "LABEL_0", "score": 7.25}],
    ]


def test_windows_of_one_text_are_averaged(single: Model) -> None:
    text = "the dog " * 50
    batch = single.preprocess([text, "a"], long_text="window")
    rows = len(batch["token_ids"]) - 1
    logits = torch.zeros(rows + 1, 3)
    logits[0, 1] = 100.0
    (long, short) = single.post_process(ClassifierOutput(logits=logits), batch, top_k=None)
    assert rows > 1 and long[0]["label"] == "fair"
    assert long[0]["score"] == pytest.approx((1 + (rows - 1) / 3) / rows)
    assert short[0]["score"] == pytest.approx(1 / 3)


def test_pairs_in_both_forms(single: Model) -> None:
    as_tuple = single.predict([("the dog", "the cat")], top_k=None)
    assert single.predict([["the dog", "the cat"]], top_k=None) == as_tuple
    assert single.predict({"text": "the dog", "text_pair": "the cat"}, top_k=None) == as_tuple
    assert single.predict([{"text": "the dog"}], top_k=None) == single.predict("the dog", top_k=None)
    assert single.predict({"text": "the dog", "text_pair": None}, top_k=None) == single.predict("the dog", top_k=None)
    assert as_tuple != single.predict("the dog the cat", top_k=None)
    types = single.preprocess([("the dog", "the cat")])["token_type_ids"]
    assert types.unique().tolist() == [0, 1]


def test_two_strings_are_two_texts(single: Model) -> None:
    assert len(single.predict(["the dog", "the cat"])) == 2


def test_losses(single: Model, several: Model, number: Model) -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0]])
    assert single.compute_loss(logits, torch.tensor([2])).item() == pytest.approx(0.40761, abs=1e-5)
    assert several.compute_loss(logits, torch.tensor([[1, 0, 1]])).item() == pytest.approx(0.37778, abs=1e-4)
    for labels in (torch.tensor([1.0]), torch.tensor([[1.0]]), torch.tensor([1])):
        assert number.compute_loss(torch.tensor([[3.0]]), labels).item() == 4.0


@pytest.mark.parametrize(
    "name",
    ["bert_text_classification", "bert_sequence_labeling", "bert_sequence_labeling_crf",
     "bert_sequence_labeling_global_pointer"],
)  # fmt: skip
def test_labels_taken_away_by_hand_are_told(name: str) -> None:
    model = tiny_model(name)
    model.config.id2label = {9: "a"}
    with pytest.raises(ConfigError, match=r"id2label names 1 labels, none of them \d, .* load it with id2label"):
        model.predict("the cat sat on the mat")
