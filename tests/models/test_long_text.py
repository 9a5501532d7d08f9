"""Texts that are longer than the model reads: cut, refused, or read in windows."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import TEXTS, text_models, texts_for, tiny_model
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import InputError, OptionError
from hezar_like.registry import models_registry
from hezar_like.tasks.text import content_places

TOLERANCE = 1e-5
WORDS = " ".join(text for text in TEXTS * 3 if text).split()
LONG = " ".join(WORDS)
OVERLAPS = [None, 0, 1, 7, 20]
WINDOWED = [name for name in text_models() if "window" in models_registry[name].module_class.long_text_modes]


def named(task: str) -> list[str]:
    return [name for name in text_models() if name.endswith(task)]


@pytest.fixture(params=text_models())
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture(params=WINDOWED)
def windowed(request: pytest.FixtureRequest) -> Model:
    """A model whose task reads windows."""
    return tiny_model(request.param)


def long_text(model: Model) -> str:
    mask = model.preprocessor.tokenizer.mask_token
    fills = model.task == "mask_filling" or (model.is_generative and model.backbone.blanks is not None)
    return f"{mask} {LONG} {mask} the cat" if fills else LONG


def context_free(name: str) -> Any:
    """A model that sees a token's identity and nothing else, so that no window can change what it says of it."""
    model = tiny_model(name, num_hidden_layers=0)
    if model.backbone.embed.positions is not None:
        with torch.no_grad():
            model.backbone.embed.positions.weight.zero_()
    return model


def logits(model: Model, text: Any, **options: Any) -> tuple[Any, Tensor]:
    """What the model says of the windows of a text, by hand."""
    batch = model.preprocess([text], long_text="window", **options)
    with torch.no_grad():
        return batch, model(**batch).logits


# -- all tasks ----------------------------------------------------------------------------------------------------


def test_truncation_warns_once(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    text = long_text(model)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        model.predict(texts_for(model), long_text="truncate")
        assert not caplog.records
        results = model.predict([text, text], long_text="truncate")
        model.predict(text, long_text="truncate")
    (record,) = caplog.records
    assert f"was cut to the {model.max_tokens} this model reads" in record.message
    assert difference(results[0], results[1]) <= TOLERANCE


def longest(model: Model) -> str:
    """The option that limits what is read; `max_length` of models that write counts what they write too."""
    return "max_input_length" if model.is_generative else "max_length"


def test_truncation_keeps_the_beginning_and_special_tokens(model: Model) -> None:
    batch = model.preprocess([long_text(model)], long_text="truncate", **{longest(model): 10})
    whole = model.preprocessor.tokenizer.encode_texts([long_text(model)])[0].ids
    assert batch["token_ids"].tolist() == [[*whole[:9], whole[-1]]]


def test_long_text_can_be_an_error(model: Model) -> None:
    texts = [texts_for(model)[0]] * 140  # more than are prepared at once
    with pytest.raises(InputError, match=f"item 140 .* tokens; the most is {model.max_tokens}"):
        model.predict([*texts, long_text(model)], long_text="error", batch_size=2)
    assert len(model.predict(texts[:3], long_text="error")) == 3


def test_other_values_are_refused(model: Model) -> None:
    text = texts_for(model)[0]
    wrong = [
        ({"long_text": "cut"}, "long_text is 'cut'"),
        ({longest(model): 0}, f"{longest(model)} is 0"),
        ({longest(model): True}, f"{longest(model)} is True"),
        ({"long_txt": "window"}, "long_text"),
    ]
    if model.backbone.max_tokens is not None:
        wrong.append(({longest(model): 10**4}, "reads at most"))
    for options, message in wrong:
        with pytest.raises(OptionError, match=message):
            model.predict(text, **options)


@pytest.mark.parametrize("name", sorted(set(text_models()) - set(WINDOWED)))
def test_hidden_states_have_no_windows(name: str) -> None:
    with pytest.raises(OptionError, match="must be one of 'truncate', 'error'"):
        tiny_model(name).predict("a cat", long_text="window")


@pytest.mark.parametrize("overlap", [-1, 8, 100])
def test_overlaps_that_leave_no_room(windowed: Model, overlap: int) -> None:
    with pytest.raises(OptionError, match=f"overlap={overlap} must be at least 0 and less than the 8 tokens"):
        windowed.predict(long_text(windowed), long_text="window", overlap=overlap, max_length=10)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_windows(windowed: Model, overlap: int | None) -> None:
    """They cover the text, overlap by what was asked for, and each has the special tokens."""
    text = long_text(windowed)
    batch = windowed.preprocess([text, texts_for(windowed)[1]], long_text="window", overlap=overlap)
    whole = windowed.preprocessor.tokenizer.encode_texts([text])[0].ids
    content, room = whole[1:-1], windowed.max_tokens - 2
    shared = room // 4 if overlap is None else overlap
    first, second = batch.rows
    rows = [row[keep].tolist() for row, keep in zip(batch["token_ids"], batch["attention_mask"].bool(), strict=True)]
    starts = [start for start, _ in batch.inputs[0].windows]
    assert len(starts) > 2 and starts == [number * (room - shared) for number in range(len(starts))]
    assert rows[first] == [[whole[0], *content[start : start + room], whole[-1]] for start in starts]
    assert starts[-1] + room >= len(content) > starts[-2] + room
    assert len(rows[second]) == 1
    places = content_places(batch.inputs[0])
    assert [rows[window][column] for window, column in places] == content

    def surroundings(token: int, window: int) -> int:
        """How much a window shows of the nearer side of a token; an end of the text hides nothing."""
        before = token - starts[window] if window else len(content)
        after = starts[window] + room - 1 - token if window < len(starts) - 1 else len(content)
        return min(before, after)

    for token, (window, _) in enumerate(places):
        best = max(surroundings(token, other) for other in range(len(starts)))
        assert surroundings(token, window) in (best, best - 1)


def test_a_text_that_fits_is_one_window(windowed: Model) -> None:
    texts = texts_for(windowed)
    results = (windowed.predict(texts, long_text=mode) for mode in ("window", "error"))
    assert difference(*results) <= TOLERANCE


def test_windows_and_short_texts_in_one_batch(windowed: Model) -> None:
    texts = [*texts_for(windowed), long_text(windowed), texts_for(windowed)[0], f"{long_text(windowed)} dog"]
    singles = [windowed.predict(text, long_text="window")[0] for text in texts]
    for batch_size in ("auto", 1, 3):
        assert difference(windowed.predict(texts, long_text="window", batch_size=batch_size), singles) <= TOLERANCE


# -- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("name", named("sequence_labeling"))
def test_every_token_has_one_label(name: str, overlap: int | None) -> None:
    model = tiny_model(name)
    records = model.predict(LONG, overlap=overlap)[0]  # windows are the default of this task
    encoded = model.preprocessor.tokenizer.encode_texts([LONG])[0]
    assert [(r["start"], r["end"]) for r in records] == encoded.offsets[1:-1]
    assert [r["token"] for r in records] == encoded.tokens()[1:-1]

    batch, scores = logits(model, LONG, overlap=overlap)
    expected = [scores[place].softmax(-1) for place in content_places(batch.inputs[0])]
    assert [r["label"] for r in records] == [model.config.id2label[int(row.argmax())] for row in expected]
    assert difference([r["score"] for r in records], [row.max().item() for row in expected]) <= TOLERANCE


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("name", named("sequence_labeling"))
def test_labels_by_windows_equal_direct_ones(name: str, overlap: int | None) -> None:
    model = context_free(name)
    windows = model.predict(LONG, overlap=overlap)[0]
    direct = [record for word in WORDS for record in model.predict([word], long_text="error")[0]]
    assert len(windows) == len(direct) > 3 * model.max_tokens
    for record, expected in zip(windows, direct, strict=True):
        assert (record["token"], record["label"]) == (expected["token"], expected["label"])
        assert abs(record["score"] - expected["score"]) <= TOLERANCE


@pytest.mark.parametrize("name", named("sequence_labeling"))
def test_words_of_a_long_text(name: str) -> None:
    """Each word has one label, in windows too, and given as words or as text."""
    model = context_free(name)
    records = model.predict([WORDS], aggregate="word")[0]
    assert [record["token"] for record in records] == WORDS
    assert all(LONG[record["start"] : record["end"]] == record["token"] for record in records)
    alone = [model.predict([[word]], aggregate="word")[0][0] for word in WORDS]
    assert [record["label"] for record in records] == [record["label"] for record in alone]
    assert difference([record["score"] for record in records], [record["score"] for record in alone]) <= TOLERANCE


@pytest.mark.parametrize("name", named("sequence_labeling"))
def test_truncated_labels_end_where_the_model_does(name: str) -> None:
    model = tiny_model(name)
    records = model.predict(LONG, long_text="truncate")[0]
    assert len(records) == model.max_tokens - 2
    assert difference(records, model.predict(LONG[: records[-1]["end"]], long_text="error")[0]) <= TOLERANCE


# -- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("name", named("mask_filling"))
def test_masks_in_windows(name: str, overlap: int | None) -> None:
    model = tiny_model(name)
    text, tokenizer = long_text(model), model.preprocessor.tokenizer
    proposals = model.predict(text, long_text="window", overlap=overlap, top_k=3)[0]
    assert len(proposals) == 2 and all(len(own) == 3 for own in proposals)

    batch, scores = logits(model, text, overlap=overlap)
    places = [p for p in content_places(batch.inputs[0]) if batch["token_ids"][p] == tokenizer.mask_token_id]
    assert len(places) == 2 and places[0][0] == 0 and places[1][0] > 0
    for own, place in zip(proposals, places, strict=True):
        values, tokens = scores[place].softmax(-1).topk(3)
        assert [p["token_id"] for p in own] == tokens.tolist()
        assert difference([p["score"] for p in own], values.tolist()) <= TOLERANCE
        assert all(tokenizer.mask_token not in p["sequence"] and p["sequence"].count("jugs") == 3 for p in own)


@pytest.mark.parametrize("name", named("mask_filling"))
def test_a_mask_that_is_cut_off(name: str) -> None:
    model = tiny_model(name)
    text = f"{LONG} {model.preprocessor.tokenizer.mask_token}"
    with pytest.raises(InputError, match=r"item 1 .*has no .* among the tokens that are read"):
        model.predict([texts_for(model)[0], text])
    assert len(model.predict(text, long_text="window")[0]) == 1


# -- one result for all windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("name", named("text_classification"))
def test_windows_of_a_classification_are_averaged(name: str, overlap: int | None) -> None:
    model = tiny_model(name)
    (labels,) = model.predict(LONG, long_text="window", overlap=overlap, top_k=None)
    _, scores = logits(model, LONG, overlap=overlap)
    mean = scores.softmax(-1).mean(0)
    assert len(scores) > 2 and mean.argmax() == int(labels[0]["label"].removeprefix("LABEL_"))
    assert {r["label"]: r["score"] for r in labels} == pytest.approx(
        {f"LABEL_{i}": value for i, value in enumerate(mean.tolist())}, abs=TOLERANCE
    )
    assert sum(record["score"] for record in labels) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", named("text_embedding"))
def test_windows_of_an_embedding_are_averaged_by_length(name: str, normalize: bool) -> None:
    model: Any = tiny_model(name, normalize=normalize)
    vector = model.embed(LONG, long_text="window")[0]
    batch = model.preprocess([LONG], long_text="window")
    with torch.no_grad():
        rows = model(**batch).embeddings
    lengths = batch["attention_mask"].sum(1, keepdim=True)
    mean = (rows * lengths).sum(0) / lengths.sum()
    assert difference(vector, mean / mean.norm() if normalize else mean) <= TOLERANCE


@pytest.mark.parametrize("name", named("text_classification"))
def test_the_second_text_of_a_pair_slides(name: str) -> None:
    model = tiny_model(name)
    batch = model.preprocess([("the dog", LONG)], long_text="window")
    first = model.preprocessor.tokenizer.encode_texts(["the dog"])[0].ids
    assert len(batch["token_ids"]) > 3
    assert (batch["token_ids"][:, : len(first)] == torch.tensor(first)).all()
    scores = model.predict([("the dog", LONG)], long_text="window", top_k=None)
    assert len(scores[0]) == 5
