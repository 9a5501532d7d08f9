"""Rows 41 and 42: what is no text is named by its index, in a list as in a stream; odd texts are texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.errors import HezarLikeError, InputError

TASKS = ["bert", "bert_text_classification", "bert_sequence_labeling", "bert_mask_filling", "bert_text_embedding"]
NO_TEXTS = {
    "None": None, "int": 5, "bytes": b"the", "nan": float("nan"), "bool": True, "nested": [["a"], ["b"]],
    "pair with None": ("a", None), "pair of numbers": (1, 2), "lone surrogate": "the \ud800", "tensor": torch.ones(2, 2),
    "empty dict": {}, "dict without text": {"txt": "a"}, "dict with None": {"text": None},
    "dict with a number": {"text": "a", "text_pair": 5}, "set": {"a"}, "object": object(),
    "long repr": ["x" * 10**5, 5],
}  # fmt: skip
LISTS = ["nested", "pair with None", "pair of numbers", "long repr"]
TEXTS = {
    "empty": "", "spaces": "   ", "nul": "a\0b", "right to left": "هزار\u200cکتابخانه", "emoji": "😀👍🏽👨‍👩‍👧",
    "combining": "e\u0301" * 20, "controls": "\x1b[31m\x07", "newlines": "\n\r\u2028\u2029", "bidi": "\u202eabc\u202c",
    "private": "\ue000\U0010ffff",
}  # fmt: skip


@pytest.fixture(scope="module", params=TASKS)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


def fine(model: Model, text: str = "the cat") -> str:
    return f"{text} [MASK]" if model.task == "mask_filling" else text


def message_of(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert isinstance(error.value, HezarLikeError) and isinstance(error.value, ValueError)
    assert text.isprintable() and len(text) < 400, text
    return text


@pytest.mark.parametrize("kind", NO_TEXTS)
def test_row_41_the_bad_item_of_a_list(kind: str, model: Model) -> None:
    for index in (0, 2):
        inputs = [fine(model)] * index + [NO_TEXTS[kind], fine(model)]
        with pytest.raises(InputError) as error:
            model.predict(inputs)
        # A list is the words of a text there, so that the text after it is the odd one.
        words = model.task == "sequence_labeling" and kind in LISTS
        expected = 1 if words and index == 0 else index
        assert message_of(error).startswith(f"item {expected} of the inputs ")
        assert error.value.index == expected


@pytest.mark.parametrize("batch_size", [1, "auto"])
@pytest.mark.parametrize("kind", ["None", "lone surrogate"])
def test_row_41_item_40_of_a_stream_is_item_40(kind: str, batch_size: Any, model: Model) -> None:
    results = []
    with pytest.raises(InputError) as error:
        for result in model.stream(
            (NO_TEXTS[kind] if i == 40 else fine(model) for i in range(100)), batch_size=batch_size
        ):
            results.append(result)
    assert message_of(error).startswith("item 40 of the inputs ")
    assert error.value.index == 40 and len(results) <= 40


def test_row_41_item_1500_of_a_stream_with_the_default_batch_size() -> None:
    model = tiny_model("bert_text_embedding", num_hidden_layers=0)
    with pytest.raises(InputError, match="item 1500 of the inputs is None"):
        model.predict(None if i == 1500 else "the" for i in range(2000))


def test_row_41_too_long_with_error(model: Model) -> None:
    with pytest.raises(InputError, match=r"item 40 of the inputs has \d+ tokens; the most is 48"):
        model.predict([fine(model)] * 40 + [fine(model, "the " * 60)], long_text="error", batch_size=1)


@pytest.mark.parametrize("kind", TEXTS)
def test_row_41_odd_texts_are_texts(kind: str, model: Model) -> None:
    text = fine(model, TEXTS[kind])
    alone = model.predict(text)
    assert len(alone) == 1
    together = model.predict([fine(model), text, fine(model)])
    assert len(together) == 3 and difference(together[1], alone[0]) < 1e-5


def test_row_41_a_megabyte(model: Model) -> None:
    text = fine(model, "")[1:] + " the cat" * 125_000
    (result,) = model.predict(text, long_text="truncate")
    assert result


def test_row_42_one_item(model: Model) -> None:
    assert len(model.predict([fine(model)])) == 1
    assert len(model.predict(fine(model))) == 1


class Broken(Exception):
    """An error of the user's own."""


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
def test_row_42_a_generator_that_raises(batch_size: Any, model: Model) -> None:
    def texts() -> Iterator[str]:
        yield from [fine(model)] * 7
        raise Broken("mine")

    with pytest.raises(Broken) as error:
        model.predict(texts(), batch_size=batch_size)
    assert str(error.value) == "mine" and "item 7" in "".join(error.value.__notes__)
    with pytest.raises(Broken) as error:
        list(model.stream(texts(), batch_size=batch_size))
    assert "item 7" in "".join(error.value.__notes__)


def test_row_42_what_came_before_the_error_is_there() -> None:
    model = tiny_model("bert_text_embedding", num_hidden_layers=0)
    count = model.batches_per_window
    results = model.stream(itertools.chain(["the"] * count, [None]), batch_size=1)
    assert len(list(itertools.islice(results, count))) == count
    with pytest.raises(InputError, match=f"item {count} of the inputs"):
        next(results)
