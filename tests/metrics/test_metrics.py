"""Metrics against known values, the packages that define them, and batches against the whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hezar_like import build_metric, list_available_metrics
from hezar_like.errors import ConfigError, DataError, OptionError, RegistryError
from hezar_like.metrics import Metric
from hezar_like.metrics.sequence_labeling import default_entities, strict_entities

HEZAR = json.loads((Path(__file__).parents[1] / "fixtures" / "metrics" / "hezar.json").read_text(encoding="utf-8"))
# Hezar ignores normalize=False, and reads each letter of a target as one of many references of ROUGE.
FAULTS = {'accuracy{"normalize": false}': {"accuracy": 3.0}, "rouge{}": None, 'rouge{"output_keys": ["rougeL"]}': None}
NAMES = ["accuracy", "bleu", "cer", "f1", "mrr", "perplexity", "precision", "recall", "rouge", "seqeval", "spearman", "wer"]


def test_they_are_registered() -> None:
    assert set(NAMES) <= set(list_available_metrics())
    for name in NAMES:
        metric = build_metric(name)
        assert isinstance(metric, Metric)
        assert metric.config.name == name
        assert metric.config.from_dict(metric.config.to_dict()) == metric.config
    assert {build_metric(name).config.objective for name in ("wer", "cer", "perplexity")} == {"minimize"}
    with pytest.raises(RegistryError, match="Did you mean 'accuracy'"):
        build_metric("acuracy")


@pytest.mark.parametrize("case", HEZAR["cases"], ids=lambda case: case["id"])
def test_hezars_values(case: dict[str, Any]) -> None:
    found = build_metric(case["metric"]).compute(case["predictions"], case["targets"], **case["kwargs"])
    expected = FAULTS.get(case["id"], case["output"])
    if expected is None:
        assert found["rougeL"] == pytest.approx((5 / 6 + 0.4) / 2, abs=1e-4)
    else:
        assert found == pytest.approx(expected, abs=1e-4)


CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(CLASSES, st.sampled_from(["micro", "macro", "weighted"]), st.sampled_from(["precision", "recall", "f1"]))
def test_averages_are_those_of_scikit_learn(pairs: list[tuple[int, int]], average: Any, name: str) -> None:
    from sklearn import metrics

    predictions, targets = (list(column) for column in zip(*pairs, strict=True))
    expected = getattr(metrics, f"{name}_score")(targets, predictions, average=average, zero_division=0)
    found = build_metric(name, average=average, n_decimals=None).compute(predictions, targets)
    assert found == pytest.approx({name: expected})


def test_classes_by_themselves_and_binary() -> None:
    predictions, targets = [0, 1, 1, 0], [0, 1, 0, 0]
    found = build_metric("f1", average=None, id2label={0: "no", 1: "yes"}).compute(predictions, targets)
    assert found == {"f1.no": 0.8, "f1.yes": 0.6667}
    assert build_metric("f1", average="binary").compute(predictions, targets) == {"f1": 0.6667}
    assert build_metric("f1", average="binary").compute(["a", "b"], ["a", "b"], pos_label="a") == {"f1": 1.0}
    with pytest.raises(OptionError, match=r"pos_label is 1, but the classes are \['a', 'b'\]"):
        build_metric("f1", average="binary").compute(["a", "b"], ["a", "b"])
    with pytest.raises(OptionError, match="there are 3"):
        build_metric("f1", average="binary").compute([0, 1, 2], [0, 1, 2])


def test_scores_of_classes_and_ignored_labels() -> None:
    logits = torch.tensor([[[0.0, 1.0], [2.0, 1.0]], [[3.0, 1.0], [0.0, 1.0]]])
    labels = torch.tensor([[1, -100], [1, 1]])
    metric = build_metric("accuracy")
    assert metric.compute(logits, labels) == {"accuracy": 0.6667}
    assert metric.compute(logits.argmax(-1).tolist(), labels.tolist()) == {"accuracy": 0.6667}
    with pytest.raises(DataError, match="shape"):
        metric.compute(logits, labels[:1])


@pytest.mark.parametrize(
    ("name", "predictions", "targets"),
    [
        ("f1", [0, 1, 1, 0, 2], [0, 1, 0, 0, 1]),
        ("seqeval", [["B-A", "I-A"], ["O"], ["B-B"]], [["B-A", "I-A"], ["B-A"], ["B-A"]]),
        ("bleu", ["a b c d e", "f g h i", "a"], ["a b c d x", "f g h i", "b"]),
        ("rouge", ["a b", "c", "d e f"], ["a c", "c", "d e g"]),
        ("wer", ["a b c d", "x", "y"], ["a b d d", "x y z", "y"]),
        ("cer", ["ab", "x", ""], ["abc", "x", "y"]),
        ("mrr", [[0.1, 0.9], [0.2, 0.1, 0.5], [1.0, 0.0]], [1, 0, 1]),
        ("spearman", [0.1, 0.4, 0.2], [1.0, 2.0, 3.0]),
        ("perplexity", [1.0, 2.0, 0.5], [3, 1, 10]),
    ],
)
def test_batches_are_counted_as_one_corpus(name: str, predictions: list[Any], targets: list[Any]) -> None:
    metric, other = build_metric(name), build_metric(name)
    metric.update(predictions[:2], targets[:2])
    other.update(predictions[2:], targets[2:])
    metric.update(other.predictions, other.targets)  # what another process collected
    assert metric.compute() == build_metric(name).compute(predictions, targets)
    metric.reset()
    with pytest.raises(DataError, match="nothing to count"):
        metric.compute()


TAGS = [f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC")] + ["O"]
SENTENCES = st.lists(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=8), min_size=1, max_size=5)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150)
@given(SENTENCES, st.sampled_from(["micro", "macro", "weighted"]))
def test_default_entities_are_those_of_seqeval(sentences: list[list[tuple[str, str]]], average: Any) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    predictions = [[a for a, _ in sentence] for sentence in sentences]
    targets = [[b for _, b in sentence] for sentence in sentences]
    for labels in targets:
        assert [(e.kind, e.start, e.end - 1) for e in default_entities(labels)] == get_entities(labels)
    found = build_metric("seqeval", average=average, n_decimals=None).compute(predictions, targets)
    options = {"average": average, "zero_division": 0}
    assert found["precision"] == pytest.approx(precision_score(targets, predictions, **options))
    assert found["recall"] == pytest.approx(recall_score(targets, predictions, **options))
    assert found["f1"] == pytest.approx(f1_score(targets, predictions, **options))


PREFIXES = {"IOB2": "BI", "IOE2": "IE", "IOBES": "BIES", "BILOU": "BILU"}


@pytest.mark.parametrize("scheme", PREFIXES)
@given(data=st.data())
def test_strict_entities_are_those_of_seqeval(scheme: Any, data: st.DataObject) -> None:
    from seqeval import scheme as schemes

    tags = [f"{prefix}-{kind}" for prefix in PREFIXES[scheme] for kind in ("PER", "LOC")] + ["O"]
    labels = data.draw(st.lists(st.sampled_from(tags), min_size=1, max_size=8))
    expected = schemes.Tokens(labels, getattr(schemes, scheme)).entities
    assert [(e.kind, e.start, e.end) for e in strict_entities(labels, scheme)] == [
        (e.tag, e.start, e.end) for e in expected
    ]


def test_seqeval_strict_suffix_numbers_and_kinds() -> None:
    wanted, found = [["B-A", "I-A", "O"]], [["I-A", "I-A", "O"]]
    assert build_metric("seqeval").compute(found, wanted)["f1"] == 1.0
    assert build_metric("seqeval", mode="strict").compute(found, wanted)["f1"] == 0.0
    assert build_metric("seqeval", suffix=True).compute([["A-B", "A-I"]], [["A-B", "A-I"]])["f1"] == 1.0
    names = {0: "O", 1: "B-A", 2: "I-A"}
    metric = build_metric("seqeval", id2label=names, per_class=True)
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2, 0]]), 3).float()
    values = metric.compute(logits, torch.tensor([[-100, 1, 2, 0]]))
    assert values == dict.fromkeys(("accuracy", "precision", "recall", "f1", "precision.A", "recall.A", "f1.A"), 1.0)
    with pytest.raises(OptionError, match="id2label"):
        build_metric("seqeval").compute([[1]], [[1]])
    with pytest.raises(DataError, match="sentence 0 has 1 predictions, but 2 targets"):
        build_metric("seqeval").compute([["O"]], [["O", "O"]])


def test_bleu_of_several_references_and_chinese() -> None:
    metric = build_metric("bleu")
    assert metric.compute(["the cat sat on the mat"], ["the cat sat on the mat"]) == {"bleu": 1.0}
    assert metric.compute(["a b c d", "e f g h"], [["x y z", "a b c d"], ["e f g h"]]) == {"bleu": 1.0}
    assert build_metric("bleu", tokenize="zh").compute(["今天天气很好"], ["今天天气很好"]) == {"bleu": 1.0}
    with pytest.raises(DataError, match="target 0 is an empty list"):
        metric.compute(["a"], [[]])


def test_rouge_reads_other_scripts() -> None:
    metric = build_metric("rouge")
    assert metric.compute(["سلام دنیا"], ["سلام به دنیا"])["rouge1"] == 0.8
    assert metric.compute(["a b"], [["x y", "a b"]])["rouge2"] == 1.0
    assert build_metric("rouge", words="characters").compute(["天气"], ["天气好"])["rouge1"] == 0.8
    stemmed = build_metric("rouge", use_stemmer=True).compute(["running dogs"], ["run dog"])
    assert stemmed["rouge1"] == 1.0
    with pytest.raises(DataError, match="text 0 is int"):
        metric.compute([3], ["a"])


def test_error_rates_count_the_corpus() -> None:
    predictions, targets = ["a", "a b c d e f g h"], ["b", "a b c d e f g h"]
    assert build_metric("wer", n_decimals=None).compute(predictions, targets) == {"wer": 1 / 9}
    assert build_metric("wer").compute(["a", "b"], ["", "b"]) == {"wer": 1.0}
    with pytest.raises(DataError, match="all targets are empty"):
        build_metric("cer").compute(["a"], [""])
    with pytest.raises(DataError, match="prediction 1 is NoneType"):
        build_metric("wer").compute(["a", None], ["a", "b"])


def test_perplexity_of_logits() -> None:
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, 3, -100, -100], [4, 5, 6, 0, 1]])
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    metric = build_metric("perplexity", n_decimals=None)
    metric.update(logits[:1], labels[:1])
    metric.update(logits[1:], labels[1:])
    assert metric.compute() == pytest.approx({"loss": float(whole), "perplexity": math.exp(whole)}, rel=1e-6)
    shifted = build_metric("perplexity", n_decimals=None, shifts_labels=True).compute(logits, labels)
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert shifted["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert metric.compute([1e6], [2])["perplexity"] == math.inf
    assert math.isnan(metric.compute([math.nan], [2])["perplexity"])
    with pytest.raises(DataError, match="no label counts"):
        metric.compute(logits, torch.full((2, 5), -100))


def test_mrr() -> None:
    metric = build_metric("mrr")
    assert metric.compute([[0.5, 0.5, 0.5, 0.5]], [0]) == {"mrr": 0.25}  # telling nothing apart gains nothing
    assert metric.compute([[0.1, 0.9, 0.5]], [[0, 2]]) == {"mrr": 0.5}
    assert metric.compute([["a", "b", "c"], ["a", "b"]], ["c", ["x"]], ranked=True) == {"mrr": 0.1667}
    assert metric.compute([[0.1, 0.2, 0.3]], [0], cutoff=2) == {"mrr": 0.0}
    with pytest.raises(DataError, match="target 0 is 5"):
        metric.compute([[0.1]], [5])


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
@pytest.mark.filterwarnings("ignore")
def test_spearman_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr

    first, second = (list(map(float, column)) for column in zip(*pairs, strict=True))
    found = build_metric("spearman", n_decimals=None).compute(first, second)["spearman"]
    assert found == pytest.approx(spearmanr(first, second).statistic, nan_ok=True)


def test_wrong_use_is_one_clear_error() -> None:
    metric = build_metric("accuracy")
    with pytest.raises(DataError, match="2 predictions, but 1 targets"):
        metric.compute([0, 1], [0])
    with pytest.raises(OptionError, match="neither"):
        metric.compute([0, 1])
    with pytest.raises(OptionError, match="no value 'acc'. Known: accuracy"):
        metric.compute([0], [0], output_keys=["acc"])
    with pytest.raises(ConfigError, match="unknown key 'normalise'. Did you mean 'normalize'"):
        metric.compute([0], [0], normalise=True)
    with pytest.raises(ConfigError, match="average"):
        build_metric("f1", average="mean")
