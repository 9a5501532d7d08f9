"""Labels for spans: scores of pairs of tokens, their loss, and records that may nest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import TEXTS, tiny_model
from torch import Tensor

from hezar_like import Model, build_model
from hezar_like.errors import ConfigError, InputError, OptionError
from hezar_like.layers import GlobalPointerHead, multilabel_cross_entropy
from hezar_like.layers.global_pointer import NO_SPAN
from hezar_like.outputs import ClassifierOutput

NAMES = {0: "PER", 1: "LOC", 2: "ORG"}


def labeler(**fields: Any) -> Model:
    values = {"num_labels": None, "id2label": NAMES, "inner_dim": 8}
    return tiny_model("bert_sequence_labeling_global_pointer", **(values | fields))


# -- the head ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_score_of_one_span() -> None:
    """From the definition: queries and keys are turned by their positions, pair by pair of channels."""
    torch.manual_seed(0)
    head, x, dim = GlobalPointerHead(16, 2, 4), torch.randn(1, 6, 16), 4
    scores = head(x)
    weight, bias = head.out.weight, head.out.bias

    def turned(vector: Tensor, position: int) -> Tensor:
        result = vector.clone()
        for pair in range(dim // 2):
            angle = position * 10000 ** (-2 * pair / dim)
            a, b = vector[2 * pair], vector[2 * pair + 1]
            result[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            result[2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
        return result

    for label, first, last in ((0, 1, 4), (1, 0, 0), (1, 2, 5)):
        at = label * 2 * dim
        query = (weight @ x[0, first] + bias)[at : at + dim]
        key = (weight @ x[0, last] + bias)[at + dim : at + 2 * dim]
        expected = turned(query, first) @ turned(key, last) / dim**0.5
        assert abs(scores[0, label, first, last] - expected) < 1e-5


@torch.no_grad()
def test_only_spans_count() -> None:
    head, x = GlobalPointerHead(16, 2, 4), torch.randn(2, 5, 16)
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    scores, all_scores = head(x, mask), head(x)
    allowed = mask[:, None, :] & mask[:, :, None] & torch.ones(5, 5).triu().bool()
    for label in range(2):
        assert torch.equal(scores[:, label] > NO_SPAN / 100, allowed)
        assert torch.equal(scores[:, label][allowed], all_scores[:, label][allowed])
    assert torch.isfinite(scores).all() and torch.isfinite(head.half()(x.half(), mask)).all()


def test_loss_by_its_definition() -> None:
    torch.manual_seed(0)
    scores, targets = torch.randn(2, 3, 7) * 3, torch.randint(2, (2, 3, 7))
    targets[0, 0] = 0
    rows = []
    for own, true in zip(scores.flatten(0, 1), targets.flatten(0, 1), strict=True):
        above = 1 + own[true == 0].exp().sum()
        below = 1 + (-own[true == 1]).exp().sum()
        rows.append(above.log() + below.log())
    assert abs(multilabel_cross_entropy(scores, targets) - torch.stack(rows).mean()) < 1e-5
    assert torch.equal(multilabel_cross_entropy(scores, targets), multilabel_cross_entropy(scores, targets.float()))


def test_loss_with_masked_scores_trains() -> None:
    head, x = GlobalPointerHead(16, 2, 4), torch.randn(1, 4, 16)
    targets = torch.zeros(1, 2, 4, 4)
    targets[0, 0, 1, 2] = 1
    loss = multilabel_cross_entropy(head(x, torch.tensor([[True, True, True, False]])).flatten(2), targets.flatten(2))
    loss.backward()
    assert torch.isfinite(loss) and loss < 100 and torch.isfinite(head.out.weight.grad).all()
    assert head.out.weight.grad.abs().max() > 1e-3


# -- the task ---------------------------------------------------------------------------------------------------------


def records_of(
    model: Model, item: Any, spans: list[tuple[int, int, int, float]], **options: Any
) -> list[dict[str, Any]]:
    """Records of one input in which these spans of columns (row 0) have these scores: first, last, label, score."""
    batch = model.preprocess([item])
    length = batch["token_ids"].size(1)
    logits = torch.full((len(batch["token_ids"]), 3, length, length), -5.0)
    for first, last, label, score in spans:
        logits[0, label, first, last] = score
    (records,) = model.post_process(ClassifierOutput(logits=logits), batch, **options)
    return records


def test_spans_may_nest() -> None:
    model = labeler()
    words = ["the", "dog", "cat"]
    columns = [i for i, special in enumerate(model.preprocess([words]).inputs[0].encoded.special) if not special]
    first, last = columns[0], columns[-1]
    records = records_of(model, words, [(first, last, 2, 3.0), (first, first, 0, 1.0), (last, last, 1, 0.0)])
    assert records == [
        {"token": "the", "label": "PER", "start": 0, "end": 3, "score": pytest.approx(torch.tensor(1.0).sigmoid().item())},
        {"token": "the dog cat", "label": "ORG", "start": 0, "end": 11, "score": pytest.approx(0.952574, abs=1e-5)},
    ]  # fmt: skip
    (record,) = records_of(model, words, [(first, last, 2, 3.0), (first, first, 0, 1.0)], threshold=0.9)
    assert record["label"] == "ORG"
    records = records_of(
        model, words, [(last, last, 1, -1.0)], threshold=0.2, return_offsets=False, return_scores=False
    )
    assert [(r["label"], r["start"], r["end"], r["score"]) for r in records] == [("LOC", None, None, None)]


def test_special_tokens_are_no_spans() -> None:
    model = labeler()
    length = model.preprocess("the dog")["token_ids"].size(1)
    assert records_of(model, "the dog", [(0, length - 1, 0, 9.0), (0, 1, 0, 9.0), (1, length - 1, 0, 9.0)]) == []


def test_batches_give_what_single_texts_give() -> None:
    model = labeler()
    expected = [model.predict(text)[0] for text in TEXTS]
    assert sum(map(len, expected)) > 10
    assert difference(model.predict(TEXTS), expected) < 1e-5


def test_windows() -> None:
    """A span in two windows is one record, with the better of its scores; offsets are those of the whole text."""
    model = labeler()
    text = "pack my box with five dozen liquor jugs " * 6
    (records,) = model.predict(text)
    keys = [(record["start"], record["end"], record["label"]) for record in records]
    assert len(set(keys)) == len(keys) and keys[-1][1] > 150
    assert [(start, end) for start, end, _ in keys] == sorted((start, end) for start, end, _ in keys)
    assert all(text[record["start"] : record["end"]] == record["token"] for record in records)

    batch = model.preprocess([text])
    (item,) = batch.inputs
    (start, second) = item.windows[1]
    shared = second.content[0]  # the first token of the second window is in the first one too
    logits = torch.full((len(batch["token_ids"]), 3, *[batch["token_ids"].size(1)] * 2), -5.0)
    logits[0, 1, item.windows[0][1].content[start], item.windows[0][1].content[start]] = 1.0
    logits[1, 1, shared, shared] = 2.0
    (records,) = model.post_process(ClassifierOutput(logits=logits), batch)
    assert [record["score"] for record in records] == [pytest.approx(torch.tensor(2.0).sigmoid().item())]


def test_words_and_nothing() -> None:
    model = labeler()
    words = ["a", "cat", "sat"]
    (records,) = model.predict([words])
    assert records and all(" ".join(words)[r["start"] : r["end"]] == r["token"] for r in records)
    assert all(record["token"].strip() for text in ("", "  ", "a") for record in model.predict(text)[0])


@torch.no_grad()
def test_loss_of_the_task() -> None:
    model = labeler()
    tokens = torch.tensor([[2, 20, 30, 40, 3], [2, 60, 3, 0, 0]])
    mask = tokens.ne(0)
    labels = torch.zeros(2, 3, 5, 5)
    labels[0, 1, 1, 3] = 1
    output = model(token_ids=tokens, attention_mask=mask, labels=labels)
    assert output.logits.shape == labels.shape
    spans = mask[:, None, :] & mask[:, :, None] & torch.ones(5, 5).triu().bool()
    rows = []
    for row in range(2):
        for label in range(3):
            own, true = output.logits[row, label][spans[row]], labels[row, label][spans[row]]
            rows.append((1 + own[true == 0].exp().sum()).log() + (1 + (-own[true == 1]).exp().sum()).log())
    assert abs(output.loss - torch.stack(rows).mean()) < 1e-5


@pytest.mark.parametrize("threshold", [0, 1, -0.5, True, "0.5", float("nan")])
def test_wrong_threshold(threshold: object) -> None:
    with pytest.raises(OptionError, match="threshold is .*; it must be a number between 0 and 1"):
        labeler().predict("a", threshold=threshold)


def test_refused() -> None:
    with pytest.raises(InputError, match="item 0 of the inputs is a pair of texts"):
        labeler().predict([{"text": "a", "text_pair": "b"}])
    with pytest.raises(ConfigError, match="inner_dim is 7; it must be even"):
        build_model("bert_ner_gp", inner_dim=7)
    with pytest.raises(OptionError, match="predict has no option 'aggregate'"):
        labeler().predict("a", aggregate="entity")
