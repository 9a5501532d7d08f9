"""The model card: written where there is none; where there is one, only what its metadata lacks is added."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hezar_like import Model, build_model
from hezar_like.errors import OptionError
from hezar_like.model_card import CardOptions, ModelFacts, update_card
from hezar_like.testing import HubServer

FACTS = ModelFacts("ann/m", "bert_text_classification", "text_classification", "text-classification", 1234, ("no", "yes"))
TOLD: dict[str, Any] = {
    "language": ["fa", "en"],
    "license": "apache-2.0",
    "base_model": "org/base",
    "datasets": "org/data",
    "metrics": {"accuracy": 0.9375, "f1": 1},
    "description": "Finds out what people think.",
}
MINE = """---
license: mit  # as my employer wants it
# a comment
tags: [sentiment, "hezar_like"]
language: fa
model-index:
- name: mine
  results:
  - task: {type: text-classification}
    dataset: {name: other, type: other}
    metrics: [{type: accuracy, value: 0.5}]
  - task: {type: text-classification}
    dataset: {name: old name, type: org/data}
    metrics: [{type: accuracy, value: 0.1}]
---

# My title

My text, which --- nobody changes.
---
"""


def written(existing: str | None = None, facts: ModelFacts = FACTS, **told: Any) -> str:
    text = update_card(existing, facts, CardOptions.from_mapping(told))
    assert text is not None
    return text


def metadata(text: str) -> dict[str, Any]:
    """As the client reads it, which must also find it in order."""
    card = ModelCard(text)
    return card.data.to_dict()


def test_a_new_card_says_it_all() -> None:
    text = written(**TOLD)
    data = metadata(text)
    assert data["library_name"] == "hezar_like" and data["pipeline_tag"] == "text-classification"
    assert data["tags"] == ["hezar_like", "text_classification"] and data["language"] == ["fa", "en"]
    assert (data["license"], data["base_model"], data["datasets"]) == ("apache-2.0", "org/base", ["org/data"])
    results = ModelCard(text).data.eval_results
    assert results is not None
    assert [(r.metric_type, r.metric_value, r.dataset_type) for r in results] == [
        ("accuracy", 0.9375, "org/data"),
        ("f1", 1.0, "org/data"),
    ]
    for part in ("# m\n", "Finds out what", "1,234 parameters", 'Model.load("ann/m")', "`no`, `yes`", "| accuracy | 0.9375 |"):
        assert part in text
    assert "[org/base](https://huggingface.co/org/base)" in text


def test_a_card_without_what_nobody_said() -> None:
    text = written(facts=ModelFacts("ann/m", "my_net", "", "", 5))
    assert metadata(text) == {"library_name": "hezar_like", "tags": ["hezar_like"]}
    assert "##" not in text and "None" not in text and "\n\n\n" not in text


def test_the_sample_fits_the_task() -> None:
    speech = ModelFacts("ann/m", "whisper_speech_recognition", "speech_recognition", "automatic-speech-recognition", 5)
    assert 'predict(["recording.wav"])' in written(facts=speech)


def test_a_card_that_is_there_keeps_every_line() -> None:
    text = written(MINE)
    assert text.partition("---\n\n# My")[2] == MINE.partition("---\n\n# My")[2]
    for line in MINE.splitlines():
        assert line in text.splitlines() or line.startswith("tags:")
    data = metadata(text)
    assert data["license"] == "mit" and data["language"] == "fa"
    assert data["tags"] == ["sentiment", "hezar_like", "text_classification"]
    assert data["pipeline_tag"] == "text-classification" and data["library_name"] == "hezar_like"
    assert update_card(text, FACTS, CardOptions()) is None


def test_what_is_told_now_wins_and_lists_grow() -> None:
    text = written(MINE, **TOLD)
    data = metadata(text)
    assert data["license"] == "apache-2.0" and data["language"] == ["fa", "en"] and data["base_model"] == "org/base"
    results = ModelCard(text).data.eval_results
    assert results is not None
    assert [(r.dataset_type, r.metric_type, r.metric_value) for r in results] == [
        ("other", "accuracy", 0.5),
        ("org/data", "accuracy", 0.9375),
        ("org/data", "f1", 1.0),
    ]
    assert "Finds out" not in text and update_card(text, FACTS, CardOptions.from_mapping(TOLD)) is None


@pytest.mark.parametrize("existing", ["", "# Only a title\n", "---\n---\n# Empty\n", "---\r\nlicense: mit\r\n---\r\n# CRLF\r\n"])
def test_cards_of_every_shape(existing: str) -> None:
    text = written(existing)
    data = metadata(text)
    assert data["library_name"] == "hezar_like" and data.get("license") == ("mit" if "mit" in existing else None)
    assert existing.rpartition("---")[2].strip() in text
    assert update_card(text, FACTS, CardOptions()) is None


@pytest.mark.parametrize("existing", ["---\na: [1\n---\nx", "---\na: &x 1\nb: *x\n---\n", "---\n- a list\n---\n", "# x" * 400_000])
def test_a_card_that_cannot_be_read_stays(existing: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hezar_like"):
        assert update_card(existing, FACTS, CardOptions()) is None
    assert "stays as it is" in caplog.text


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"licence": "mit"}, "Did you mean 'license'"),
        ({"license": 5}, "must be a text of one line, not '5'"),
        ({"language": ["fa", 3]}, "must be texts"),
        ({"metrics": {"accuracy": float("nan")}}, "must be finite numbers by name"),
        ({"metrics": {"accuracy": 10**400}}, "must be finite numbers by name"),
        ({"metrics": [0.5]}, "must be finite numbers by name"),
        ({"training": {"steps": float("inf")}}, "must be texts or finite numbers by name"),
        ({"training": "long"}, "must be texts or finite numbers by name"),
    ],
)
def test_what_is_told_is_checked(told: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CardOptions.from_mapping(told)


def test_labels_are_nothing_but_text() -> None:
    evil = ("<script>x</script>", "`rm`", "a|b", "two\nlines\x1b[31m", "](http://x)")
    body = written(facts=ModelFacts("ann/m", "n", "", "", 1, (*evil, *"x" * 100))).rpartition("## Labels")[2]
    assert not set("<>|\x1b]") & set(body) and body.count("\n") == 3 and body.endswith("and 55 more\n")
    assert body.count("`") == 2 * 50


def test_a_model_tells_of_itself(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = build_model("bert_text_classification", vocab_size=50, id2label={0: "bad", 1: "good"}, **sizes)
    model.push_to_hub("ann/first", card={"language": "fa"})
    card = hub.read("ann/first", "README.md").decode()
    assert "`bad`, `good`" in card and "base_model" not in card and metadata(card)["language"] == ["fa"]
    Model.load("ann/first").push_to_hub("ann/second")
    assert metadata(hub.read("ann/second", "README.md").decode())["base_model"] == "ann/first"
    Model.load("ann/first").push_to_hub("ann/silent", card={"base_model": ""})
    assert b"ann/first" not in hub.read("ann/silent", "README.md")
    before = len(hub.log)
    with pytest.raises(OptionError, match="no key 'licence'"):
        model.push_to_hub("ann/third", card={"licence": "mit"})
    assert len(hub.log) == before

    hub.add_file("ann/first", "README.md", b"---\nlicense: mit\n---\n# Mine\n")
    Model.load("ann/first").push_to_hub("ann/first", card={"metrics": {"accuracy": 0.5}})
    card = hub.read("ann/first", "README.md").decode()
    assert card.endswith("---\n# Mine\n") and "license: mit" in card and "value: 0.5" in card and "base_model" not in card
