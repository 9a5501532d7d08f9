"""Which temperatures are tried for a window, and what is taken in the end, with attempts whose outcome is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_whisper

from hezar_like import Model
from hezar_like.tasks.speech_segments import Window
from hezar_like.tasks.speech_transcription import Transcription, plain_tokens

TEMPERATURES = [0.0, 0.2, 0.4, 0.6]
GOOD, BAD = -0.5, -1.5
SILENT, LOUD = 0.9, 0.1
ONCE, AGAIN = "a b c d", "a b " * 80


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_whisper()


def tried(
    model: Model, monkeypatch: pytest.MonkeyPatch, outcomes: list[tuple[float, float, str]], **options: Any
) -> tuple[list[float], list[Any]]:
    """The temperatures that are tried, when each try has such a log-probability, silence and text; and the chunks."""
    temperatures: list[float] = []

    def attempt(self: Transcription, states: Any, prompts: list[Any], timed: bool, temperature: float) -> list[Window]:
        probability, silence, text = outcomes[len(temperatures)]
        temperatures.append(temperature)
        return [Window(plain_tokens(self._tokenizer, text), text, probability, silence, temperature) for _ in prompts]

    monkeypatch.setattr(Transcription, "_attempt", attempt)
    thresholds = {"logprob_threshold": -1.0, "compression_ratio_threshold": 2.4, "no_speech_threshold": 0.6}
    options = {**thresholds, "return_timestamps": False, "temperature": TEMPERATURES, "return_scores": True, **options}
    (record,) = model.predict(torch.randn(48_000, generator=torch.Generator().manual_seed(0)) / 10, **options)
    return temperatures, record["chunks"]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ((GOOD, LOUD, ONCE), False),
        ((BAD, LOUD, ONCE), True),  # improbable
        ((GOOD, LOUD, AGAIN), True),  # repeats itself
        ((GOOD, SILENT, ONCE), False),
        ((GOOD, SILENT, AGAIN), True),
        ((BAD, SILENT, ONCE), False),  # nobody speaks
        ((BAD, SILENT, AGAIN), False),
    ],
)
def test_what_is_tried_again(
    model: Model, monkeypatch: pytest.MonkeyPatch, first: tuple[float, float, str], again: bool
) -> None:
    temperatures, chunks = tried(model, monkeypatch, [first, (GOOD, LOUD, ONCE)])
    assert temperatures == TEMPERATURES[: 1 + again]
    assert bool(chunks) is not (first[0] == BAD and first[1] == SILENT)


def test_each_threshold_may_be_off(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (GOOD, LOUD, ONCE)
    for name, first in (
        ("logprob_threshold", (BAD, LOUD, ONCE)),
        ("compression_ratio_threshold", (GOOD, LOUD, AGAIN)),
    ):
        assert len(tried(model, monkeypatch, [first, good])[0]) == 2
        assert len(tried(model, monkeypatch, [first, good], **{name: None})[0]) == 1
    assert len(tried(model, monkeypatch, [(BAD, SILENT, ONCE), good], no_speech_threshold=None)[0]) == 2


def test_silence_is_that_of_the_first_try(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (chunk,) = tried(model, monkeypatch, [(BAD, 0.3, ONCE), (GOOD, 0.5, ONCE)])
    assert (chunk["no_speech_prob"], chunk["avg_logprob"], chunk["temperature"]) == (0.3, GOOD, 0.2)


def test_where_all_fail_the_most_probable_that_does_not_repeat_itself_is_taken(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [(-1.8, LOUD, ONCE), (-1.2, LOUD, "c d"), (-0.2, LOUD, AGAIN), (-1.9, LOUD, ONCE)]
    temperatures, (chunk,) = tried(model, monkeypatch, outcomes)
    assert temperatures == TEMPERATURES
    assert (chunk["avg_logprob"], chunk["temperature"]) == (-1.2, 0.6)
    repeated = [(probability, LOUD, AGAIN) for probability in (-1.8, -0.9, -0.2, -1.9)]
    assert tried(model, monkeypatch, repeated)[1][0]["avg_logprob"] == -0.2
