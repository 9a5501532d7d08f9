"""Every registered model: predictions by the engine are those without it, for any batches, orders and threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from comparing import difference
from tiny_models import built_in, texts_for, tiny_model, tiny_whisper
from torch import Tensor

from hezar_like import Model
from hezar_like.engine import running
from hezar_like.layers import Attention
from hezar_like.registry import models_registry
from hezar_like.tasks.choices import ChoiceTask

NAMES = built_in()
WRITING = [name for name in NAMES if models_registry[name].module_class.is_generative]
NEW = {"max_new_tokens": 6, "return_scores": True}
CHOICES = ["jumps over the lazy dogs", "sat", "on the mat", "jugs of liquor and five dozen boxes"]


def model_of(name: str) -> Model:
    model = tiny_whisper() if name.startswith("whisper") else tiny_model(name)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Attention) and part.scale == 1.0:  # else softmax makes much of little
                part.q.weight.mul_(part.head_dim**-0.5)
    return model


def inputs_of(model: Model) -> list[Any]:
    """Inputs of unequal lengths."""
    if model.task == "speech_recognition":
        random = torch.Generator().manual_seed(0)
        return [torch.randn(count, generator=random) / 10 for count in (16_000, 700_000, 40_000)]
    texts = [text for text in texts_for(model) if text]
    if not isinstance(model, ChoiceTask):
        return texts
    blank = "[MASK] " if model.task == "cloze" else ""
    return [{"text": blank + text, "choices": CHOICES[: 2 + i % 3]} for i, text in enumerate(texts)]


def options_of(model: Model) -> dict[str, Any]:
    if model.task == "speech_recognition":
        return {**NEW, "temperature": 0.0}
    return NEW if model.is_generative else {}


def predictions(model: Model, inputs: list[Any], **options: Any) -> list[Any]:
    return model.predict(inputs, progress=False, **options_of(model), **options)


def test_all_are_here() -> None:
    assert {"speech_recognition", "cloze", "multiple_choice"} <= {models_registry[name].module_class.task for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_predicts_what_modules_predict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    inputs = inputs_of(model)
    ran = []
    prepared = running.prepared
    monkeypatch.setattr(running, "prepared", lambda *args: ran.append(found := prepared(*args)) or found)
    found = predictions(model, inputs)
    assert ran and None not in ran
    monkeypatch.setattr(running, "prepared", lambda *_: None)
    monkeypatch.setattr(running, "_linear", lambda *_: None)
    assert difference(found, predictions(model, inputs)) <= 1e-5


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WRITING])
def test_bfloat16_is_as_near_as_without_the_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rounded model gives by the engine is as far from float32 as what it gives by itself."""
    model = model_of(name)
    inputs = inputs_of(model)

    def outputs() -> list[Tensor]:
        results = model.predict(inputs, progress=False, post_process=False)
        keys = [key for key, value in results[0].items() if isinstance(value, Tensor) and value.is_floating_point()]
        tensors = [result[key].float() for result in results for key in keys if key != "last_hidden_state" or len(keys) == 1]
        return [torch.where(tensor > -1e4, tensor, 0.0) for tensor in tensors]

    exact = outputs()
    model.to(torch.bfloat16)
    by_engine = outputs()
    monkeypatch.setattr(running, "prepared", lambda *_: None)
    monkeypatch.setattr(running, "_linear", lambda *_: None)
    by_itself = outputs()

    def far(found: list[Tensor]) -> float:
        """The mean square difference from what is exact."""
        squares = [(a - b).square() for a, b in zip(found, exact, strict=True)]
        return float(torch.cat([square.flatten() for square in squares]).mean().sqrt())

    assert 0 < far(by_engine) <= 1.5 * far(by_itself) + 1e-4


@pytest.mark.parametrize("name", WRITING)
def test_batches_orders_and_threads_do_not_tell_what_is_written(name: str) -> None:
    model = model_of(name)
    inputs = inputs_of(model) * 2
    expected = [predictions(model, [one])[0] for one in inputs]
    same = partial(difference, theirs=expected)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert same(predictions(model, inputs, batch_size=3)) <= 1e-5
            assert same(predictions(model, inputs[::-1])[::-1]) <= 1e-5
            assert same(predictions(model, iter(inputs), batch_size=1)) <= 1e-5  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(threads)
