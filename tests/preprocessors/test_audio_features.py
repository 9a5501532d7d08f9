"""Whisper's log-mel features: those of transformers for a window, those of faster-whisper for a whole recording."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from faster_whisper.audio import pad_or_trim
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st

from hezar_like import build_preprocessor
from hezar_like.errors import ConfigError, InputError, OptionError, PreprocessorError
from hezar_like.preprocessors import (
    Preprocessor,
    WhisperFeatureExtractor,
    WhisperFeatureExtractorConfig,
    extractor_from_transformers,
    read_audio,
    transformers_extractor_files,
)

RATE = 16_000
HEZAR = Path(__file__).parents[1] / "fixtures" / "speech" / "hezar_whisper"
Samples = np.ndarray[Any, np.dtype[np.float32]]


def sound(samples: int, seed: int = 0) -> Samples:
    """A chirp that swells, and noise."""
    time = np.arange(samples) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.01, samples)
    return (np.sin(2 * np.pi * (200 + 40 * time) * time) * np.abs(np.sin(time)) * 0.4 + noise).astype(np.float32)


def quiet(samples: int) -> Samples:
    return np.zeros(samples, np.float32)


@pytest.fixture(params=[80, 128])
def mels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def extractor(mels: int) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(WhisperFeatureExtractorConfig(feature_size=mels))


@pytest.mark.parametrize("samples", [sound(40_000), sound(40_123), sound(480_000), sound(500_001), quiet(8000), sound(3)])
def test_a_window_is_that_of_transformers(samples: Samples, mels: int, extractor: WhisperFeatureExtractor) -> None:
    theirs = transformers.WhisperFeatureExtractor(feature_size=mels)
    expected = theirs(samples, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
    result = extractor(samples, return_attention_mask=True)
    assert result["input_features"].shape == (1, mels, 3000)
    torch.testing.assert_close(result["input_features"], expected["input_features"], atol=1e-5, rtol=0)
    assert torch.equal(result["attention_mask"], expected["attention_mask"].long())


@pytest.mark.parametrize("samples", [sound(40_123), sound(1_200_001), quiet(8000), sound(201)])
def test_a_whole_recording_is_that_of_transformers(
    samples: Samples, mels: int, extractor: WhisperFeatureExtractor
) -> None:
    theirs = transformers.WhisperFeatureExtractor(feature_size=mels)
    options: dict[str, Any] = {"padding": "longest", "truncation": False}
    expected = theirs(samples, sampling_rate=RATE, return_tensors="pt", **options)["input_features"]
    result = extractor(samples, **options)["input_features"]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    alone = extractor(samples, truncation=False, padding=None)["input_features"]
    assert torch.equal(alone, result)


@pytest.mark.parametrize("samples", [sound(40_123), sound(1_200_001), sound(480_000), quiet(8000), sound(300), sound(7)])
def test_long_recordings_are_those_of_faster_whisper(
    samples: Samples, mels: int, extractor: WhisperFeatureExtractor
) -> None:
    theirs = FeatureExtractor(feature_size=mels)
    # They look at 160 samples of silence after the end, and drop the frame that this adds; a short recording they
    # would mirror.
    expected = theirs(samples, padding=160 if len(samples) > 1000 else 480_000)[:, : len(samples) // 160]
    result = extractor.features(samples)
    assert result.dtype == torch.float32 and result.shape == (mels, len(samples) // 160)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-4)
    for start in (0, 100, len(samples) // 160 - 1):
        window = extractor.pad_or_cut(result, max(start, 0))
        np.testing.assert_array_equal(window.numpy(), pad_or_trim(result.numpy()[:, max(start, 0) :]))


@given(sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=12), mirrored=st.booleans())
@settings(max_examples=40, deadline=None)
def test_blocks_of_any_size_make_the_same_features(sizes: list[int], mirrored: bool) -> None:
    extractor = build_preprocessor("whisper_feature_extractor")
    samples = torch.from_numpy(sound(max(sum(sizes), 1)))
    blocks = samples.split([*sizes[:-1], len(samples) - sum(sizes[:-1])])
    whole = extractor._log_mel([samples], mirrored=mirrored, device=None)
    torch.testing.assert_close(extractor._log_mel(blocks, mirrored=mirrored, device=None), whole, atol=1e-6, rtol=0)


def test_the_loudest_frame_of_all_sets_the_silence(extractor: WhisperFeatureExtractor) -> None:
    samples = np.concatenate([quiet(320_000), sound(160_000)])
    whole = extractor.features(samples)
    assert whole[:, 100].max() == pytest.approx(whole.max().item() - 2.0, abs=1e-5)
    assert extractor.features(samples[:160_000]).max() == -1.5


def test_a_recording_knows_its_seconds_afterwards(extractor: WhisperFeatureExtractor) -> None:
    recording = extractor.recording(sound(400_000))
    features = extractor.features(recording)
    assert (features.shape[1], recording.seconds) == (2500, 25.0)
    assert (extractor.window_frames, extractor.frames_per_second) == (3000, 100.0)
    with pytest.raises(OptionError, match="8000 Hz"):
        extractor.features(read_audio(sound(100), 8000))


def test_a_batch_gives_what_single_recordings_give(extractor: WhisperFeatureExtractor) -> None:
    file = io.BytesIO()
    soundfile.write(file, sound(70_000, 1), 44_100, format="FLAC")
    items: list[Any] = [sound(40_000), file.getvalue(), {"raw": (sound(9000) * 32767).astype(np.int16), "sampling_rate": 8000}]
    batch = extractor(items)["input_features"]
    assert torch.equal(batch, torch.cat([extractor(item)["input_features"] for item in items]))
    longest = extractor(items, padding="longest", return_attention_mask=True)
    assert longest["input_features"].shape[2] == 250
    assert longest["attention_mask"].sum(1).tolist() == [250, 159, 113]
    assert extractor([])["input_features"].shape == (0, extractor.config.feature_size, 3000)
    as_lists, as_arrays = extractor(items, return_tensors="list"), extractor(items, return_tensors="np")
    assert torch.tensor(as_lists["input_features"]).equal(batch)
    np.testing.assert_array_equal(as_arrays["input_features"], batch.numpy())


def test_bad_recordings_and_options(extractor: WhisperFeatureExtractor) -> None:
    with pytest.raises(InputError, match="^item 1 of the inputs is an array of int16 without a sampling_rate"):
        extractor([sound(100), np.zeros(100, np.int16)])
    assert extractor([np.zeros(100, np.int16)], RATE)["input_features"].shape[0] == 1
    with pytest.raises(InputError, match="^the audio names 'no.wav'"):
        extractor("no.wav")
    with pytest.raises(OptionError, match="different lengths"):
        extractor([sound(400), sound(800)], padding=None)
    with pytest.raises(OptionError, match="padding='most'"):
        extractor(sound(400), padding="most")
    with pytest.raises(ConfigError, match="n_fft=401"):
        WhisperFeatureExtractorConfig(n_fft=401)
    with pytest.raises(ConfigError, match="hop_length=200"):
        WhisperFeatureExtractorConfig(hop_length=200)


MEMORY = """
    import resource, sys
    import numpy, torch
    from hezar_like import build_preprocessor

    extractor = build_preprocessor("whisper_feature_extractor")
    hour = numpy.lib.stride_tricks.as_strided(numpy.ones(1, "float32"), (3600 * 16_000,), (0,))
    extractor.features(hour[: 16_000 * 120])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    features = extractor.features(hour)
    print(features.nbytes / 2**20, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_the_memory_of_an_hour_is_its_features() -> None:
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(MEMORY)], capture_output=True, text=True, check=True)
    size, grown = map(float, result.stdout.split())
    assert size == pytest.approx(109.9, abs=0.1)
    assert grown < 2.2 * size  # the parts, and the whole that is made of them


# -- files ----------------------------------------------------------------------------------------------------------


def test_hezars_files(tmp_path: Path) -> None:
    loaded = Preprocessor.load(HEZAR).audio_feature_extractor
    assert isinstance(loaded, WhisperFeatureExtractor)
    assert loaded.config == WhisperFeatureExtractorConfig()
    loaded.save(tmp_path)
    assert WhisperFeatureExtractor.load(tmp_path).config == loaded.config


Find = Callable[[str], Path | None]


def finder(folder: Path) -> Find:
    return lambda name: folder / name if (folder / name).is_file() else None


def test_transformers_reads_ours_and_we_theirs(mels: int, extractor: WhisperFeatureExtractor, tmp_path: Path) -> None:
    for name, content in transformers_extractor_files(extractor).items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(theirs) is transformers.WhisperFeatureExtractor
    expected = theirs(sound(20_000), sampling_rate=RATE, return_tensors="pt")["input_features"]
    torch.testing.assert_close(extractor(sound(20_000))["input_features"], expected, atol=1e-5, rtol=0)
    theirs.save_pretrained(tmp_path / "again")
    for folder in (tmp_path, tmp_path / "again"):
        read = extractor_from_transformers(finder(folder))
        assert read is not None and read.config == extractor.config


def test_other_files_of_transformers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(values: dict[str, Any], name: str = "preprocessor_config.json") -> WhisperFeatureExtractor | None:
        (tmp_path / name).write_text(json.dumps(values))
        result = extractor_from_transformers(finder(tmp_path))
        (tmp_path / name).unlink()
        return result

    whisper = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128, "mel_filters": [[0.0]]}
    assert extractor_from_transformers(finder(tmp_path)) is None
    assert read({"image_processor_type": "ViTImageProcessor"}) is None
    for found in (read(whisper), read({"feature_extractor": whisper}, "processor_config.json")):
        assert found is not None and found.config.feature_size == 128
    assert caplog.messages == []
    read({**whisper, "vad": 1})
    assert "'vad'" in caplog.text
    for values in ({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, {**whisper, "dither": 0.1}):
        with pytest.raises(PreprocessorError, match=r"preprocessor_config.json: .* is not supported"):
            read(values)
    with pytest.raises(ConfigError, match="preprocessor_config.json.*feature_size"):
        read({**whisper, "feature_size": "80"})
