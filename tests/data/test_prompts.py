"""Templates: every style of every one is filled, and its answer stands where the model reads it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import glm_tokenizer, tokenizer
from tiny_models import tiny_fields

from hezar_like import Tokenizer, build_dataset, build_model, build_preprocessor
from hezar_like.data import PadCollator, answer_scores
from hezar_like.data.prompts import read_templates
from hezar_like.errors import ConfigError, DataError, PreprocessorError
from hezar_like.registry import models_registry

TEMPLATES = read_templates()
ROW: dict[str, Any] = {
    "passage": "The cat sat on the mat", "question": "cause", "premise": "a cat sat", "hypothesis": "the dog sat",
    "choice1": "it was tired", "choice2": "it ran", "paragraph": "Some text", "answer": "the mat", "query": "@placeholder sat",
    "entity": "the cat", "word": "mat", "sentence1": "a mat", "sentence2": "the mat", "text": "He sat", "span1_text": "He",
    "target": {"span1_text": "He", "span2_text": "it"}, "text_a": "今天天气", "text_b": "天气好", "label": 1,
}  # fmt: skip
CASES = [(name, style) for name, template in TEMPLATES.items() for style in template["styles"]]
WORDS = "No Yes Maybe no yes maybe 1 2 无关 有关 否 是 不是"


@cache
def tokenizer_for(style: str) -> Tokenizer:
    """One that has what the style needs, and all words as tokens."""
    if style == "glm":
        return glm_tokenizer()
    if style in ("bert", "pair"):
        made = build_preprocessor("wordpiece_tokenizer", vocab_size=800, min_frequency=1, show_progress=False)
    else:
        made = build_preprocessor("bpe_tokenizer", vocab_size=800, min_frequency=1, show_progress=False)
    made.train_from_iterator([*WORDS.split(), *(f"it {word}" for word in WORDS.split()), *map(str, ROW.values())] * 20)
    made.add_special_tokens(["<s_0>" if style == "cpm2" else "<extra_id_0>"])
    return made


@pytest.mark.parametrize(("name", "style"), CASES)
def test_every_template_in_every_style(name: str, style: str) -> None:
    own = tokenizer_for(style)
    data = build_dataset("prompt", rows=[ROW, {**ROW, "label": 0}], template=name, style=style, preprocessor=own)
    for index, label in enumerate((1, 0)):
        prompt = data.prompts[index]
        assert prompt.label == label and len(prompt.choices) == len(TEMPLATES[name]["labels"])
        assert not set("{}") & set(prompt.text.replace("{blank}", "") + (prompt.text_pair or ""))
        assert ("{blank}" in prompt.text) == (style not in ("gpt", "pair"))
        sample = data[index]
        if style == "pair":
            assert sample["labels"] == label and 1 in sample["token_type_ids"]
            continue
        answers = [token for token in sample["labels"] if token != -100]
        if style == "glm":
            whole = own.encode_texts([prompt.choices[label]], add_special_tokens=False)[0].ids
            assert answers == [*whole, own.role_id("eop")] and sample["token_ids"].count(own.mask_token_id) == 1
        else:
            assert answers == [data.answer_ids[label]]
            assert own.decode([data.answer_ids[label]])[0].strip().startswith(data._style["words"][label].strip()[:1])
    batch = data.data_collator([data[0], data[1]])
    assert all(isinstance(value, torch.Tensor) for value in batch.values())


def test_texts_are_those_of_the_originals() -> None:
    def text(name: str, style: str, **row: Any) -> str:
        return build_dataset("prompt", rows=[{**ROW, **row}], template=name, style=style).prompts[0].text

    assert text("boolq", "t5") == "The cat sat on the mat. cause? {blank}."
    assert text("boolq", "gpt") == "The cat sat on the mat. cause?"
    assert text("rte", "t5") == "Sentence 1: a cat sat Sentence 2: the dog sat Does sentence 1 entails sentence 2? {blank}."
    assert text("copa", "t5") == 'Choice 1: it was tired Choice 2: it ran The cause of "a cat sat" was choice {blank}.'
    assert text("copa", "glm") == '"it was tired" or "it ran"? a cat sat because {blank}.'
    assert text("copa", "glm", question="effect") == '"it was tired" or "it ran"? a cat sat so {blank}.'
    assert text("wsc", "t5") == "He sat Does it refers to He? {blank}."
    assert text("lcqmc", "cpm1", sentence1=None, sentence2=None) == '"今天天气"与"天气好"的关系是:{blank}。'
    assert text("lcqmc", "cpm2") == "“a mat”与“the mat”是否有关？{blank}"


def test_nested_rows_become_samples() -> None:
    answers = [{"text": "the mat", "label": 1}, {"text": "a dog", "label": 0}]
    questions = [{"question": "Where?", "answers": answers}, {"question": "Who?", "answers": answers[:1]}]
    nested = {"idx": 0, "passage": {"text": "It sat.", "questions": questions}}
    data = build_dataset("prompt", rows=[nested, nested], template="multirc", style="pair", preprocessor=tokenizer_for("pair"))
    assert [(p.text, p.text_pair, p.label) for p in data.prompts[:3]] == [
        ("It sat.", "Where? the mat", 1), ("It sat.", "Where? a dog", 0), ("It sat.", "Who? the mat", 1),
    ]  # fmt: skip
    assert (len(data), data.rows.where(2), data.rows.where(3)) == (6, "row 0", "row 1")
    flat = {"paragraph": "It sat.", "question": "Where?", "answer": "the mat", "label": 1}
    assert build_dataset("prompt", rows=[flat], template="multirc", style="pair").prompts[0] == data.prompts[0]


def test_where_each_style_answers() -> None:
    t5, gpt = tokenizer_for("t5"), tokenizer_for("gpt")
    sentinel = t5.token_to_id("<extra_id_0>")
    sample = build_dataset("prompt", rows=[ROW], template="boolq", style="t5", preprocessor=t5)[0]
    assert sample["decoder_input_ids"] == [t5.padding_id, sentinel] and sample["labels"][0] == -100
    assert sample["token_ids"].count(sentinel) == 1
    cpm2 = tokenizer_for("cpm2")
    sample = build_dataset("prompt", rows=[ROW], template="lcqmc", style="cpm2", preprocessor=cpm2)[0]
    assert sample["decoder_input_ids"] == [cpm2.token_to_id("<s_0>")] and len(sample["labels"]) == 1
    sample = build_dataset("prompt", rows=[ROW], template="boolq", style="gpt", preprocessor=gpt)[0]
    assert sample["token_ids"][-1] == sample["labels"][-1] and set(sample["labels"][:-1]) == {-100}
    sample = build_dataset("prompt", rows=[ROW], template="lcqmc", style="cpm1", preprocessor=gpt)[0]
    hole = sample["context"].index(False)
    assert sample["context"].count(False) == 1 and sample["token_ids"][hole] == gpt.padding_id
    assert sample["labels"][hole] != -100 and hole < len(sample["token_ids"]) - 1


def test_labels_of_every_spelling() -> None:
    for label, number in ((True, 1), (False, 0), ("true", 1), ("False", 0), (1, 1), ("0", 0)):
        data = build_dataset("prompt", rows=[{**ROW, "label": label}], template="boolq")
        assert data.prompts[0].label == number
    data = build_dataset("prompt", rows=[{**ROW, "label": "neutral"}], template="cb")
    assert (data.prompts[0].label, data.id2label) == (2, {0: "contradiction", 1: "entailment", 2: "neutral"})
    with pytest.raises(DataError, match="row 0: there is no label 'neutrl'. Did you mean 'neutral'"):
        build_dataset("prompt", rows=[{**ROW, "label": "neutrl"}], template="cb")
    import datasets

    names = datasets.Features({"premise": datasets.Value("string"), "hypothesis": datasets.Value("string"), "label": datasets.ClassLabel(names=["entailment", "not_entailment"])})
    hub = datasets.Dataset.from_dict({"premise": ["a"], "hypothesis": ["b"], "label": [0]}, features=names)
    assert build_dataset("prompt", rows=hub, template="rte").prompts[0].label == 1  # the Hub counts the other way


@pytest.mark.parametrize("style", ["bert", "gpt", "t5", "cpm1", "glm"])
def test_long_texts_keep_their_end_and_their_blank(style: str) -> None:
    long = {**ROW, "passage": "The cat sat " * 200, "sentence1": "天气" * 200}
    template = "lcqmc" if style == "cpm1" else "boolq"
    data = build_dataset("prompt", rows=[long], template=template, style=style, preprocessor=tokenizer_for(style), max_length=40)
    assert len(data[0]["token_ids"]) <= 40
    assert any(label != -100 for label in data[0]["labels"])


def test_a_blank_that_is_cut_off_is_told() -> None:
    row = {**ROW, "premise": "a cat sat " * 50}
    data = build_dataset("prompt", rows=[ROW, row], template="rte", style="bert", preprocessor=tokenizer_for("bert"), max_length=30)
    with pytest.raises(DataError, match="row 1: its blank is not among the 30 tokens"):
        data[1]


@pytest.mark.parametrize(("name", "style", "shifts"), [("bert_mask_filling", "bert", False), ("gpt2_text_generation", "gpt", True), ("t5_text_generation", "t5", False)])
def test_models_learn_to_answer(name: str, style: str, shifts: bool) -> None:
    own = tokenizer_for(style)
    rows = [{**ROW, "question": "yes or no", "passage": passage, "label": label} for passage, label in (("The cat sat", 1), ("it ran", 0))]
    data = build_dataset("prompt", rows=rows, template="boolq", style=style, preprocessor=own)
    torch.manual_seed(0)
    sizes = {} if style == "t5" else {"max_position_embeddings": 64}
    fields = tiny_fields(models_registry[name].config_class, vocab_size=own.max_token_id + 1, **sizes)
    model = build_model(name, **fields)
    batch = PadCollator.of(own)([data[0], data[1]])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(40):
        output = model(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    scores = answer_scores(model.eval()(**batch).logits, batch["labels"], data.answer_ids, shifts_labels=shifts)
    assert scores.argmax(-1).tolist() == [1, 0]


def test_templates_of_ones_own_and_wrong_ones(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "mood:\n  labels: [bad, good]\n  label_field: mood\n  styles:\n    gpt: {text: '{body} It was', words: [' no', ' yes']}\n    bad: {text: a}\nempty: {}\n"
    )
    rows = [{"body": "Nice.", "mood": "good"}]
    data = build_dataset("prompt", rows=rows, template=f"{tmp_path / 'my.yaml'}:mood", style="gpt", preprocessor=tokenizer_for("gpt"))
    assert data.prompts[0].text == "Nice. It was"
    for template, style, error, message in (
        ("bolq", "t5", ConfigError, "there is no template 'bolq'. Did you mean 'boolq'"),
        ("boolq", "t6", ConfigError, "has no style 't6'. Known: bert, glm, gpt, pair, t5"),
        (f"{tmp_path / 'my.yaml'}:mood", "bad", ConfigError, "there is no style 'bad'"),
        (f"{tmp_path / 'my.yaml'}:empty", "gpt", ConfigError, "must have `labels` and `styles`"),
        (f"{tmp_path / 'no.yaml'}:mood", "gpt", ConfigError, "cannot be read"),
        ("wic", "t5", DataError, "row 0: has no 'sentence1', which the template 'wic' needs"),
    ):
        with pytest.raises(error, match=message):
            build_dataset("prompt", rows=rows, template=template, style=style)
    same = build_dataset("prompt", rows=[ROW], template="lcqmc", style="bert", preprocessor=tokenizer())
    with pytest.raises(ConfigError, match="do not begin with different tokens"):
        same[0]
    with pytest.raises(PreprocessorError, match="no sentinels such as <extra_id_0>"):
        build_dataset("prompt", rows=[ROW], template="boolq", style="t5", preprocessor=tokenizer())[0]
