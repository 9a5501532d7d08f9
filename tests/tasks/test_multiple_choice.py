"""Multiple choice: rows for choices, losses, records, and transformers' models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from comparing import difference, perturb
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.cli import main
from hezar_like.errors import InputError, OptionError
from hezar_like.outputs import ClassifierOutput
from hezar_like.registry import families_registry

CLOSE = 1e-5
FAMILIES = [name for name, entry in families_registry.items() if "multiple_choice" in entry.module_class.heads]
SIZES = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 48,
}  # fmt: skip
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
CLASSES = {
    "bert": (transformers.BertConfig, transformers.BertForMultipleChoice, SIZES),
    "roberta": (transformers.RobertaConfig, transformers.RobertaForMultipleChoice, SIZES),
    "distilbert": (
        transformers.DistilBertConfig,
        transformers.DistilBertForMultipleChoice,
        {"vocab_size": 120, "max_position_embeddings": 48, **DISTILBERT},
    ),
}
QUESTIONS = [
    {"text": "the quick brown fox", "choices": ["jumps", "sat on the mat"]},
    {"text": "", "choices": ["the dog", "a cat sat", "zebras", "daft"]},
    {"text": "a cat sat on the mat", "choices": ["how vexingly quick daft zebras jump"]},
]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(f"{request.param}_multiple_choice")


def test_families() -> None:
    assert {"bert", "roberta", "distilbert", "glm"} <= set(FAMILIES)


# -- transformers -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", CLASSES)
def test_transformers_models(family: str, tmp_path: Path) -> None:
    """The same scores, loss and gradients, and a folder that transformers opens again."""
    config_class, model_class, sizes = CLASSES[family]
    theirs = model_class(config_class(**sizes)).eval()
    perturb(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = Model.load(tmp_path / "theirs", device="cpu")
    assert ours.task == "multiple_choice" and ours.config.family == family
    torch.manual_seed(1)
    tokens, mask = torch.randint(5, 120, (3, 4, 11)), torch.ones(3, 4, 11, dtype=torch.int64)
    mask[:, 1, 7:] = 0
    given = {"input_ids": tokens, "attention_mask": mask, "labels": torch.tensor([0, 2, 3])}
    expected, found = theirs(**given), ours(**given)
    assert difference(found.logits, expected.logits) <= CLOSE
    assert difference(found.loss, expected.loss) <= CLOSE
    expected.loss.backward()
    found.loss.backward()
    table = ours.family.keymap(ours.config, ours.task)
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters() if parameter.grad is not None}
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            (part,) = table.parts(name)
            assert difference(gradients[part.name], parameter.grad) <= CLOSE, name
    ours.export("transformers", tmp_path / "ours")
    again, report = model_class.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        assert difference(again.eval()(**given).logits, expected.logits) == 0.0


def test_a_backbone_gets_a_new_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_model("bert").save(tmp_path)
    model = Model.load(tmp_path, device="cpu", task="multiple_choice")
    assert "new and random" in caplog.text and "head.out.weight" in caplog.text
    assert len(model.predict(QUESTIONS)) == 3


# -- forward ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_each_choice_is_scored_by_itself(model: Model) -> None:
    torch.manual_seed(0)
    tokens, mask = torch.randint(5, 110, (2, 4, 9)), torch.ones(2, 4, 9)
    mask[0, 1, 5:] = 0
    together = model(token_ids=tokens, attention_mask=mask)
    assert together.logits.shape == (2, 4) and together.last_hidden_state.shape[:2] == (8, 9)
    for row in range(2):
        for choice in range(4):
            length = int(mask[row, choice].sum())
            alone = model(tokens[row, choice, None, :length])
            assert alone.logits.shape == (1, 1)
            assert difference(together.logits[row, choice], alone.logits[0, 0]) <= CLOSE
    vectors = model.backbone.embed.tokens(tokens)
    assert difference(model(inputs_embeds=vectors, attention_mask=mask).logits, together.logits) <= CLOSE
    heads = torch.rand(2, 4)  # of 4 heads in 2 blocks, not of 4 choices for 2 inputs
    masked = model(token_ids=tokens, attention_mask=mask, head_mask=heads).logits
    alone = model(tokens[1], mask[1], head_mask=heads).logits
    assert difference(masked[1], alone[:, 0]) <= CLOSE and difference(masked, together.logits) > 1e-3


@torch.no_grad()
def test_what_a_family_reads_besides_has_rows_too() -> None:
    glm = tiny_model("glm_multiple_choice")
    torch.manual_seed(0)
    tokens, places = torch.randint(5, 110, (2, 3, 9)), torch.randint(0, 40, (2, 3, 2, 9))
    ends = torch.randint(1, 9, (2, 3))
    together = glm(token_ids=tokens, position_ids=places, attention_mask=ends).logits
    for row in range(2):
        alone = glm(tokens[row], ends[row], places[row]).logits
        assert difference(together[row], alone[:, 0]) <= CLOSE


def test_losses(model: Model) -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0]])
    assert model.compute_loss(logits, torch.tensor([2])).item() == pytest.approx(0.40761, abs=1e-5)
    for labels in (torch.tensor([1, 0]), torch.tensor([[1.0], [0.0]])):  # a single choice: whether it is right
        loss = model.compute_loss(torch.tensor([[1.0], [3.0]]), labels)
        assert loss.item() == pytest.approx((0.31326 + 3.04859) / 2, abs=1e-5)


# -- predict ------------------------------------------------------------------------------------------------------------


def test_predict(model: Model) -> None:
    results = model.predict(QUESTIONS)
    for item, result in zip(QUESTIONS, results, strict=True):
        assert set(result) == {"choice", "index", "score", "scores"}
        assert len(result["scores"]) == len(item["choices"])
        assert result["choice"] == item["choices"][result["index"]]
        assert result["score"] == max(result["scores"]) == result["scores"][result["index"]]
    assert sum(results[0]["scores"]) == pytest.approx(1.0) and sum(results[1]["scores"]) == pytest.approx(1.0)
    twice = model.predict({"text": "a cat", "choices": ["the dog", "the dog"]})[0]
    assert twice["scores"] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert 0 < results[2]["score"] < 1
    tokenizer = model.preprocessor.tokenizer
    rows = tokenizer([("the quick brown fox", choice) for choice in QUESTIONS[0]["choices"]], return_tensors="torch")
    with torch.no_grad():
        by_hand = model(
            **{key: rows[key][None] for key in ("token_ids", "attention_mask")}, **types(model, rows)
        ).logits
    assert results[0]["scores"] == pytest.approx(by_hand.softmax(-1)[0].tolist(), abs=1e-5)


def types(model: Model, rows: dict[str, Any]) -> dict[str, Any]:
    """Segment types, where the model has them: the second text is a choice."""
    if model.backbone.token_types < 2:
        return {}
    texts = [("the quick brown fox", choice) for choice in QUESTIONS[0]["choices"]]
    kinds = model.preprocessor.tokenizer(texts, return_tensors="torch", return_token_type_ids=True)["token_type_ids"]
    assert kinds.unique().tolist() == [0, 1]
    return {"token_type_ids": kinds[None]}


@pytest.mark.parametrize("batch_size", ["auto", 1, 2, 100])
def test_a_batch_gives_what_single_inputs_give(batch_size: Any, model: Model) -> None:
    singles = [model.predict(question)[0] for question in QUESTIONS]
    assert difference(model.predict(QUESTIONS * 3, batch_size=batch_size), singles * 3) <= CLOSE
    assert difference(list(model.stream(iter(QUESTIONS))), singles) <= CLOSE
    batch = model.preprocess(QUESTIONS)
    assert difference(model.predict(batch, preprocess=False), singles) <= CLOSE
    assert model.predict([]) == []


def test_choices_for_all_texts(model: Model) -> None:
    choices = ["the dog", "a cat"]
    texts = ["the quick brown fox", {"text": "a cat sat"}, {"text": "a cat sat", "choices": ["zebras"]}]
    first, second, third = model.predict(texts, choices=choices)
    assert difference(first, model.predict({"text": texts[0], "choices": choices})[0]) <= CLOSE
    assert second["choice"] in choices and third["choice"] == "zebras"


def test_rows_without_post_process(model: Model) -> None:
    first, _, third = model.predict(QUESTIONS, post_process=False)
    assert first["logits"].shape == (2, 1) and third["logits"].shape == (1,)


def test_post_process_reads_scores(model: Model) -> None:
    batch = model.preprocess(QUESTIONS)
    logits = torch.tensor([[0.0], [1.0], [5.0], [5.0], [-1.0], [6.0], [0.0]])
    first, second, third = model.post_process(ClassifierOutput(logits=logits), batch)
    assert (first["choice"], second["index"], third["score"]) == ("sat on the mat", 3, 0.5)
    assert first["scores"] == pytest.approx([0.26894, 0.73106], abs=1e-5)


def test_long_rows(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    long = {"text": "the dog " * 60, "choices": ["a cat", "a cat sat " * 60]}
    batch = model.preprocess([long])
    assert batch["token_ids"].shape == (2, model.max_tokens) and "was cut" in caplog.text
    assert len(model.predict([long])[0]["scores"]) == 2
    with pytest.raises(InputError, match=rf"item 1 .* tokens; the most is {model.max_tokens}"):
        model.predict([QUESTIONS[0], long], long_text="error")
    with pytest.raises(OptionError, match="long_text"):
        model.predict([long], long_text="window")
    with pytest.raises(OptionError, match="overlap"):
        model.predict([long], overlap=3)
    assert model.preprocess([long], max_length=12)["token_ids"].shape == (2, 12)


def test_from_the_command_line(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With choices in the lines of a file, or as an option."""
    model.save(tmp_path / "model")
    lines = tmp_path / "questions.jsonl"
    lines.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS), encoding="utf-8")
    assert main(["predict", str(tmp_path / "model"), "--input", str(lines), "--device", "cpu"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    results = model.predict(QUESTIONS)
    assert difference(found, [{**q, "result": result} for q, result in zip(QUESTIONS, results, strict=True)]) <= CLOSE
    choices = QUESTIONS[0]["choices"]
    text = ["predict", str(tmp_path / "model"), QUESTIONS[0]["text"], "--device", "cpu"]
    assert main([*text, "--set", f"choices=[{', '.join(choices)}]"]) == 0
    assert difference(json.loads(capsys.readouterr().out)["result"], results[0]) <= CLOSE


# -- inputs that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "a text", ("a", "b"), 5, None, {"text": "a"}, {"choices": ["a"]}, {"text": 5, "choices": ["a"]},
        {"text": "a", "choices": []}, {"text": "a", "choices": "bc"}, {"text": "a", "choices": ["a", 5]},
        {"text": "a", "choices": {"a": 1}}, {"text": ["a"], "choices": ["a"]}, {},
    ],
    ids=repr,
)  # fmt: skip
def test_inputs_that_are_none(wrong: Any) -> None:
    model = tiny_model("bert_multiple_choice")
    with pytest.raises(InputError, match='item 1 .*"choices": a list of texts'):
        model.predict([QUESTIONS[0], wrong])


def test_other_keys_are_not_ignored() -> None:
    with pytest.raises(InputError, match="'text_pair'"):
        tiny_model("bert_multiple_choice").predict([{**QUESTIONS[0], "text_pair": "b"}])


@pytest.mark.parametrize("choices", ["ab", [], [5], 5])
def test_choices_that_are_none(choices: Any) -> None:
    with pytest.raises(OptionError, match="choices is"):
        tiny_model("bert_multiple_choice").predict(["a"], choices=choices)


def test_broken_text_names_its_input() -> None:
    model = tiny_model("bert_multiple_choice")
    with pytest.raises(InputError, match="item 1 "):
        model.predict([QUESTIONS[0], {"text": "a", "choices": ["b", "c", "\ud800"]}])
