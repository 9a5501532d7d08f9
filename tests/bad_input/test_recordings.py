"""Bad recordings, and bad options for writing what is said: one clear error each, or what is documented."""

from __future__ import annotations

import io
import math
import resource
import struct
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from hezar_like import Model
from hezar_like.errors import ConfigError, HezarLikeError, InputError, OptionError

FIXTURE = Path(__file__).parents[1] / "fixtures" / "speech" / "hezar_whisper"
RATE = 16_000
QUICK: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 2}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(FIXTURE, device="cpu", config_filename="model_config_timestamps.yaml")


def wav(samples: bytes, *, channels: int = 1, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples)
    return file.getvalue()


def claiming(size: int) -> bytes:
    """A second of silence whose header claims more."""
    data = bytearray(wav(b"\0\0" * RATE))
    data[4:8], data[40:44] = struct.pack("<I", size), struct.pack("<I", size - 36)
    return bytes(data)


BAD: dict[str, tuple[Any, str]] = {
    "a wrong path": ("nowhere.wav", "names 'nowhere.wav', which is not a file here"),
    "a folder": (FIXTURE, "which is not a file here"),
    "a text file": (FIXTURE / "model_config.yaml", "cannot be read as audio"),
    "a text": (b"What was said was this.", "cannot be read as audio"),
    "no bytes": (b"", "cannot be read as audio"),
    "no frames": (wav(b""), "has no samples"),
    "no samples": (torch.empty(0), "has no samples"),
    "no rate": ({"array": torch.zeros(RATE), "sampling_rate": 0}, "sampling_rate 0"),
    "a rate of 0 in a header": (wav(b"\0\0" * 9)[:24] + bytes(4) + wav(b"\0\0" * 9)[28:], "0 Hz"),
    "2000 channels": (torch.zeros(2000, 4000), "at most 1024 channels"),
    "samples that are no numbers": (torch.full((RATE,), math.nan), "NaN or infinite"),
    "infinite samples": (torch.full((RATE,), math.inf), "NaN or infinite"),
    "integers without a rate": (torch.zeros(RATE, dtype=torch.int16), "without a sampling_rate"),
    "a number": (5, "'int'"),
    "nothing": (None, "'NoneType'"),
    "nested lists": ([[0.0, 0.1]], "'list'"),
    "a mapping of something else": ({"text": "hello"}, "mapping with the key 'text'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recordings(model: Model, name: str) -> None:
    recording, problem = BAD[name]
    good = torch.zeros(RATE // 10)
    with pytest.raises(InputError) as caught:
        model.predict([good, recording, good], **QUICK)
    message = str(caught.value)
    assert "item 1 of the inputs" in message and problem in message
    assert message.isprintable() and len(message) < 1000


def test_a_thousand_channels_are_one_recording(model: Model) -> None:
    assert model.predict(torch.zeros(1000, RATE), **QUICK) == model.predict(torch.zeros(RATE), **QUICK)


def test_a_header_that_claims_four_gigabytes(model: Model) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (record,) = model.predict(claiming(2**32 - 1), **QUICK)
    assert all(chunk["timestamp"][1] <= 1.0 for chunk in record["chunks"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * scale()


def test_two_hours_of_silence_in_a_small_file(model: Model, tmp_path: Path) -> None:
    path, seconds = tmp_path / "silence.flac", 2 * 60 * 60
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(seconds // 60):
            file.write(torch.zeros(60 * RATE).numpy())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told: list[tuple[float, float]] = []
    (record,) = model.predict(
        path, report=lambda *seconds: told.append(seconds), windows="parallel", no_speech_threshold=0.0, **QUICK
    )
    assert record == {"text": "", "chunks": []} and sum(done for done, _ in told) == pytest.approx(seconds)
    # Features take 32 KB a second, 230 MB, and twice that while the parts are joined; samples would take 460 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 900 * scale()


def scale() -> int:
    """What a megabyte is in the numbers of `getrusage`."""
    return 2**20 if sys.platform == "darwin" else 2**10


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no tokens": ({"max_new_tokens": 0}, "max_new_tokens"),
    "fewer than no tokens": ({"max_new_tokens": -1}, "max_new_tokens"),
    "more tokens than positions": ({"max_new_tokens": 1000}, "writes at most 60"),
    "a temperature below 0": ({"temperature": -1.0}, "temperature"),
    "no temperature": ({"temperature": math.nan}, "temperature"),
    "one such of several": ({"temperature": [0.0, math.inf]}, "temperature"),
    "no beams": ({"num_beams": 0}, "num_beams"),
    "no samples": ({"best_of": 0}, "best_of"),
    "two ways to choose": ({"num_beams": 3, "penalty_alpha": 0.5, "top_k": 4}, "two ways"),
    "a threshold that is none": ({"no_speech_threshold": 2.0}, "no_speech_threshold"),
    "a language nobody speaks": ({"language": "klingon"}, "klingon"),
    "a number for a language": ({"language": 5}, "language"),
    "no windows": ({"batch_size": 0}, "batch_size"),
    "a rate for a path": ({"sampling_rate": 0}, "is not a sampling rate"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("call", [Model.predict, lambda model, *args, **options: list(model.stream(*args, **options))])
def test_wrong_options(model: Model, name: str, call: Callable[..., Any]) -> None:
    options, problem = WRONG[name]
    with pytest.raises(OptionError) as caught:
        call(model, torch.zeros(RATE // 10), **options)
    assert problem in str(caught.value) and str(caught.value).isprintable()


def test_a_stream_with_beams_is_one_that_waits_for_windows(model: Model) -> None:
    options = {**QUICK, "num_beams": 3, "no_speech_threshold": None, "logprob_threshold": None}
    (record,) = model.predict(torch.zeros(RATE), **options)
    assert [chunk for _, chunk in model.stream(torch.zeros(RATE), **options)] == record["chunks"]


def test_a_model_without_an_end_writes_no_times(model: Model) -> None:
    settings, eos = model.config.generation_config, model.config.eos_token_id
    try:
        model.config.eos_token_id = None
        assert model.generate(torch.zeros(1, 80, 3000), max_new_tokens=2, return_timestamps=True).shape[1] == 5
        settings.no_timestamps_token_id = None
        kept, model.preprocessor = model.preprocessor, None
        with pytest.raises(HezarLikeError, match="no_timestamps_token_id"):
            model.generate(torch.zeros(1, 80, 3000), return_timestamps=True)
        with pytest.raises(ConfigError):
            settings.median_filter_width = 0
            settings.check()
    finally:
        model.config.eos_token_id = eos
        model.preprocessor, settings.no_timestamps_token_id, settings.median_filter_width = kept, 506, 7
