"""Cloze tests: what stands in a blank, or is written for it, scored by its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import InputError, OptionError, PreprocessorError
from hezar_like.registry import families_registry

CLOSE = 1e-5
FAMILIES = [name for name, entry in families_registry.items() if "cloze" in entry.module_class.heads]
IN_BLANKS = [name for name in FAMILIES if name != "glm"]
MASK = "[MASK]"
QUESTIONS = [
    {"text": f"the quick {MASK} fox", "choices": ["brown", "the lazy dog", "a cat sat on the mat"]},
    {"text": f"{MASK}", "choices": ["the dog", "zebras"]},
    {"text": f"a cat sat on the {MASK} and then the quick brown fox", "choices": ["mat"]},
]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(f"{request.param}_cloze")


@pytest.fixture
def glm() -> Model:
    return tiny_model("glm_cloze")


def tokens_of(model: Model, text: str) -> list[int]:
    return model.preprocessor.tokenizer.encode_texts([text], add_special_tokens=False)[0].ids


def scores_of(model: Model, *args: Any, **options: Any) -> Tensor:
    """What the tokens of the vocabulary score."""
    with torch.no_grad():
        scores = model(*args, **options).logits
    return scores.log_softmax(-1) if model.config.log_probabilities else scores


def by_hand(model: Model, text: str, choice: str) -> float:
    """The sum of the scores of a choice's tokens, from one row for it alone."""
    tokenizer, answer = model.preprocessor.tokenizer, tokens_of(model, choice)
    blanks = model.backbone.blanks
    if blanks is None:
        (row,) = tokenizer.encode_texts([text.replace(MASK, MASK * len(answer))])
        found = scores_of(model, torch.tensor([row.ids]))[0]
        places = [index for index, token in enumerate(row.ids) if token == tokenizer.mask_token_id]
    else:
        (row,) = tokenizer.encode_texts([text])
        found = scores_of(model, torch.tensor([[*row.ids, blanks.start, *answer]]))[0]
        answer = [*answer, blanks.end]
        places = [len(row.ids) + index for index in range(len(answer))]
    return sum(found[place, token].item() for place, token in zip(places, answer, strict=True))


def test_families() -> None:
    assert {"bert", "roberta", "distilbert", "glm"} <= set(FAMILIES)


# -- predict ------------------------------------------------------------------------------------------------------------


def test_predict(model: Model) -> None:
    for item, result in zip(QUESTIONS, model.predict(QUESTIONS), strict=True):
        sums = torch.tensor([by_hand(model, item["text"], choice) for choice in item["choices"]])
        expected = sums.softmax(0) if len(sums) > 1 else sums.sigmoid()
        assert result["scores"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert result["index"] == int(expected.argmax()) and result["choice"] == item["choices"][result["index"]]
        assert result["score"] == max(result["scores"])


@pytest.mark.parametrize("batch_size", ["auto", 1, 2, 100])
def test_a_batch_gives_what_single_inputs_give(batch_size: Any, model: Model) -> None:
    singles = [model.predict(question)[0] for question in QUESTIONS]
    assert difference(model.predict(QUESTIONS * 3, batch_size=batch_size), singles * 3) <= CLOSE
    assert difference(list(model.stream(iter(QUESTIONS))), singles) <= CLOSE
    assert difference(model.predict(model.preprocess(QUESTIONS), preprocess=False), singles) <= CLOSE
    assert model.predict([]) == []


def test_choices_for_all_texts(model: Model) -> None:
    """As labels and their words in a zero-shot classification."""
    texts = [f"the dog sat . it was {MASK}", {"text": f"{MASK} cat"}]
    choices = ["quick", "lazy"]
    for text, result in zip(texts, model.predict(texts, choices=choices), strict=True):
        item = text if isinstance(text, dict) else {"text": text}
        assert difference(result, model.predict({**item, "choices": choices})[0]) <= CLOSE


def test_length_penalty(model: Model) -> None:
    penalised = tiny_model(model.config.name, choice_length_penalty=1.5)
    item = QUESTIONS[0]
    end = 0 if model.backbone.blanks is None else 1
    sums = [
        by_hand(model, item["text"], choice) / (len(tokens_of(model, choice)) + end) ** 1.5
        for choice in item["choices"]
    ]
    assert penalised.predict(item)[0]["scores"] == pytest.approx(torch.tensor(sums).softmax(0).tolist(), abs=1e-5)


def test_raw_scores(model: Model) -> None:
    raw, item = tiny_model(model.config.name, take_softmax=False), QUESTIONS[0]
    sums = torch.tensor([by_hand(raw, item["text"], choice) for choice in item["choices"]])
    assert raw.predict(item)[0]["scores"] == pytest.approx(sums.softmax(0).tolist(), abs=1e-5)
    logarithms = torch.tensor([by_hand(model, item["text"], choice) for choice in item["choices"]])
    assert difference(sums, logarithms) > 1


# -- forms of forward ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_whole_rows_and_texts_read_once(glm: Model) -> None:
    """One row for each choice, or the text once and the choices after it: the same scores, loss and gradients."""
    texts = torch.tensor([[2, 20, 4, 30, 3, 0], [2, 20, 30, 40, 4, 3]])
    lengths, places = torch.tensor([5, 6]), torch.tensor([2, 4])
    start, end = glm.backbone.blanks.start, glm.backbone.blanks.end
    answers = [[[50, 51, end], [52, end]], [[53, end], [54, 55, end]]]
    shape = (2, 2, 3)
    choices, targets, counted = torch.full(shape, end), torch.zeros(shape).long(), torch.zeros(shape)
    rows, row_targets, row_counted = torch.zeros(2, 2, 9).long(), torch.zeros(2, 2, 9).long(), torch.zeros(2, 2, 9)
    for row in range(2):
        for choice, answer in enumerate(answers[row]):
            size, first = len(answer), int(lengths[row])
            choices[row, choice, :size] = torch.tensor([start, *answer[:-1]])
            targets[row, choice, :size], counted[row, choice, :size] = torch.tensor(answer), 1
            rows[row, choice, :first] = texts[row, :first]
            rows[row, choice, first : first + size] = choices[row, choice, :size]
            row_targets[row, choice, first : first + size] = torch.tensor(answer)
            row_counted[row, choice, first : first + size] = 1
    positions = torch.stack((places[:, None].expand(2, 3), torch.arange(1, 4).expand(2, 3)), 1)
    positions = positions[:, None].expand(-1, 2, -1, -1)
    labels = torch.tensor([1, 0])
    expected = glm(token_ids=rows, target_ids=row_targets, logit_mask=row_counted, labels=labels)
    assert expected.logits.shape == (2, 2)
    after = {"target_ids": targets, "logit_mask": counted, "labels": labels}
    for mask in (lengths, (torch.arange(6) < lengths[:, None]).long(), None):
        mask = {} if mask is None else {"attention_mask": mask}
        once = glm(token_ids=texts, **mask, choice_ids=choices, choice_position_ids=positions, **after)
        flagai = glm(input_ids=texts, **mask, dec_input_ids=choices, dec_position_ids=positions, **after)
        assert difference(flagai.logits, once.logits) == 0
        assert (difference(once.logits, expected.logits) <= CLOSE) is bool(mask)  # without, padding is read
        if mask:
            assert difference(once.loss, expected.loss) <= CLOSE
    traced = glm(
        token_ids=texts, attention_mask=lengths, choice_ids=choices, choice_position_ids=positions,
        output_hidden_states=True, **after,
    )  # fmt: skip
    assert traced.hidden_states[-1].shape == (4, 3, 32)
    for row in range(2):
        for choice, answer in enumerate(answers[row]):
            size, first = len(answer), int(lengths[row])
            single = glm(
                token_ids=rows[row, choice, None, : first + size],
                target_ids=row_targets[row, choice, None, : first + size],
                logit_mask=row_counted[row, choice, None, : first + size],
                labels=torch.tensor([1]),
            )
            assert difference(single.logits, expected.logits[row, choice].view(1, 1)) <= CLOSE
            assert single.loss.item() == pytest.approx(-expected.logits[row, choice].sigmoid().log().item(), abs=1e-4)


@torch.no_grad()
def test_single_tokens_at_one_place(model: Model) -> None:
    tokens = torch.tensor([[2, 20, 4, 30, 3, 0], [2, 20, 30, 40, 4, 3]])
    mask, places = tokens.ne(0).long(), torch.tensor([2, 4])
    targets, labels = torch.tensor([[50, 51, 52], [53, 54, 50]]), torch.tensor([2, 0])
    found = model(tokens, mask, target_ids=targets, target_positions=places, labels=labels)
    vocabulary = scores_of(model, tokens, mask)
    expected = vocabulary[torch.arange(2), places].gather(1, targets)
    assert difference(found.logits, expected) <= CLOSE
    assert found.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(expected, labels).item(), abs=1e-5)


@torch.no_grad()
def test_tokens_may_count_more_or_less(model: Model) -> None:
    tokens, weights = torch.tensor([[2, 20, 4, 30, 4, 3]]), torch.tensor([[0, 0, 0.5, 0, 2.0, 0]])
    targets = torch.tensor([[0, 0, 50, 0, 51, 0]])
    vocabulary = scores_of(model, tokens)[0]
    expected = 0.5 * vocabulary[2, 50] + 2 * vocabulary[4, 51]
    assert difference(model(tokens, target_ids=targets, logit_mask=weights).logits, expected.view(1, 1)) <= CLOSE


@torch.no_grad()
def test_nothing_is_read_behind_the_blank_at_the_end() -> None:
    """The tokenizer's end is there, but not for the choices."""
    glm = tiny_model("glm_cloze", eos_token_id=3)
    item = {"text": f"the quick {MASK}", "choices": ["fox", "lazy dog"]}
    batch = glm.preprocess(item)
    ((*row, last),) = batch["token_ids"].tolist()
    assert last == 3 and batch["attention_mask"].tolist() == [[1] * len(row) + [0]]
    alone = {key: batch[key] for key in ("choice_ids", "choice_position_ids", "target_ids", "logit_mask")}
    expected = glm(token_ids=torch.tensor([row]), **alone).logits.softmax(-1)[0]
    assert glm.predict(item)[0]["scores"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_gradients_reach_what_counts_and_no_more(model: Model) -> None:
    batch = model.preprocess(QUESTIONS[:1])
    model(**batch).logits.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    assert model.head.out.weight.grad.abs().max() > 0


def test_without_choices_it_scores_the_vocabulary(model: Model) -> None:
    tokens = torch.tensor([[2, 20, 4, 3]])
    assert model(tokens).logits.shape == (1, 4, 120)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": torch.tensor([0])}, "give target_ids too"),
        ({"logit_mask": torch.ones(1, 4)}, "give target_ids too"),
        ({"target_ids": torch.ones(1, 4).long(), "choice_position_ids": torch.ones(1, 4)}, "give choice_ids"),
        (
            {key: torch.ones(1).long() for key in ("target_ids", "target_positions", "logit_mask")},
            "give target_positions, or logit_mask",
        ),
        ({"target_ids": torch.ones(1, 4).long()}, "give logit_mask with target_ids"),
        ({"target_ids": torch.ones(1, 4).long(), "logit_mask": torch.ones(1, 3)}, "in the same shape"),
    ],
)
def test_inputs_that_do_not_belong_together(options: dict[str, Tensor], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tiny_model("bert_cloze")(torch.tensor([[2, 20, 4, 3]]), **options)


def test_encoders_read_whole_rows() -> None:
    shape = torch.ones(1, 2, 3).long()
    with pytest.raises(OptionError, match="'bert_cloze' cannot read choice_ids after a text"):
        tiny_model("bert_cloze")(torch.tensor([[2, 20, 4, 3]]), target_ids=shape, logit_mask=shape, choice_ids=shape)


# -- checkpoints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_models_checkpoint_is_one_for_cloze(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The head is the same, so nothing is new and nothing is left."""
    other = "text_generation" if family == "glm" else "mask_filling"
    first = tiny_model(f"{family}_{other}", tie_word_embeddings=False)
    first.save(tmp_path / "native")
    folders = [tmp_path / "native"]
    if family != "glm":
        first.export("transformers", tmp_path / "transformers")
        folders.append(tmp_path / "transformers")
    tokens = torch.tensor([[2, 20, 4, 3]])
    for folder in folders:
        cloze = Model.load(folder, device="cpu", task="cloze")
        assert not caplog.records
        with torch.no_grad():
            assert difference(cloze(tokens).logits, first(tokens).logits) <= CLOSE
        assert len(cloze.predict(QUESTIONS)) == 3
    cloze.save(tmp_path / "back")
    back = Model.load(tmp_path / "back", device="cpu", task=other)
    assert not caplog.records and difference(back(tokens).logits, first(tokens).logits) <= CLOSE


def test_a_backbone_has_no_such_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_model("bert").save(tmp_path)
    Model.load(tmp_path, device="cpu", task="cloze")
    assert "new and random" in caplog.text and "head.dense.weight" in caplog.text


# -- inputs that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["no blank", f"{MASK} and {MASK}", ""])
def test_texts_without_one_blank(text: str, model: Model) -> None:
    message = r"Give one of .*\[MASK\]" if model.backbone.blanks else r"has \[MASK\] \d times"
    with pytest.raises(InputError, match=f"item 1 .*{message}"):
        model.predict([QUESTIONS[0], {"text": text, "choices": ["a"]}])


@pytest.mark.parametrize("choice", ["", "  "])
def test_choices_without_tokens(choice: str, model: Model) -> None:
    with pytest.raises(InputError, match="item 1 .* has the choice '.*', which has no tokens"):
        model.predict([QUESTIONS[0], {"text": MASK, "choices": ["a", choice]}])


def test_a_blank_that_is_cut_off(model: Model) -> None:
    long = {"text": "the dog " * 60 + MASK, "choices": ["a", "the dog"]}
    with pytest.raises(InputError, match="item 0 .*among the tokens that are read"):
        model.predict([long])
    with pytest.raises(InputError, match="item 0 .* tokens; the most is"):
        model.predict([long], long_text="error")
    assert model.predict([{**long, "text": MASK + " the dog" * 60}])[0]["choice"] in long["choices"]


def test_a_choice_with_more_tokens_than_positions(glm: Model) -> None:
    most = glm.backbone.max_tokens - 1
    fits, long = " ".join(["a"] * most), " ".join(["a"] * (most + 1))
    assert glm.predict({"text": MASK, "choices": [fits]})[0]["index"] == 0
    with pytest.raises(InputError, match=f"item 1 .* a choice of {most + 1} tokens; the most is {most}"):
        glm.predict([QUESTIONS[0], {"text": MASK, "choices": ["a", long]}])


@pytest.mark.parametrize("wrong", ["a text", {"text": MASK}, {"text": MASK, "choices": "ab"}, 5], ids=repr)
def test_inputs_that_are_none(wrong: Any, glm: Model) -> None:
    with pytest.raises(InputError, match='item 0 .*"choices": a list of texts'):
        glm.predict([wrong])


def test_a_tokenizer_without_a_mask() -> None:
    model = tiny_model("bert_cloze")
    tokenizer = type(model.preprocessor.tokenizer)(
        model.preprocessor.tokenizer.config, backend=model.preprocessor.tokenizer.backend
    )
    tokenizer.config.mask_token = None
    model.preprocessor = tokenizer
    with pytest.raises(PreprocessorError, match="no mask token"):
        model.predict(QUESTIONS)
