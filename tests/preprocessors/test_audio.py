"""Recordings from files, bytes and arrays: read in blocks, averaged, scaled, resampled, or refused with one sentence."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hezar_like.errors import InputError, MissingDependency, OptionError
from hezar_like.preprocessors import read_audio
from hezar_like.preprocessors.audio import BLOCK

RATE = 16_000


def tone(seconds: float, rate: int = RATE, frequency: float = 440.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray[Any, Any], rate: int = RATE, **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file.getvalue()


def wav(samples: bytes, *, rate: int = RATE, channels: int = 1, claimed: int | None = None) -> bytes:
    """A wav file of 16-bit PCM with a header that may claim anything."""
    size = len(samples) if claimed is None else claimed
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 % 2**32, channels * 2 % 2**16, 16)
    head = b"RIFF" + struct.pack("<I", min(size + 36, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", size) + samples


# -- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"format": "WAV", "subtype": "PCM_16"}, 2**-15),
        ({"format": "WAV", "subtype": "PCM_24"}, 2**-22),
        ({"format": "WAV", "subtype": "FLOAT"}, 0),
        ({"format": "FLAC"}, 2**-15),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.05),
        ({"format": "MP3"}, 0.05),
    ],
)
def test_formats_from_paths_and_bytes(options: dict[str, Any], tolerance: float, tmp_path: Path) -> None:
    samples = tone(9.5)  # more than a block
    assert len(samples) > BLOCK
    data = encoded(samples, **options)
    path = tmp_path / "a file.bin"
    path.write_bytes(data)
    results = [read_audio(source).read() for source in (data, bytearray(data), path, str(path), {"path": str(path)})]
    assert all(torch.equal(result, results[0]) for result in results)
    assert results[0].dtype == torch.float32
    assert abs(len(results[0]) - len(samples)) <= (0 if tolerance < 0.01 else 3000)
    size = min(len(samples), len(results[0])) - (0 if tolerance < 0.01 else 3000)
    assert np.abs(results[0].numpy()[:size] - samples[:size]).max() <= tolerance


@pytest.mark.parametrize("extra", [0, 3])
def test_python_reads_plain_wav_as_soundfile_does(extra: int) -> None:
    samples = np.stack([tone(9), tone(9, frequency=300)], 1)
    data = encoded(samples, format="WAV", subtype="PCM_16") + b"\0" * extra
    theirs, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_allclose(read_audio(data).read().numpy()[: len(theirs)], theirs.mean(1), atol=1e-7)


def test_blocks_count_seconds() -> None:
    recording = read_audio(encoded(tone(20), format="FLAC"))
    assert recording.seconds == 0
    sizes = [len(block) for block in recording]
    assert len(sizes) >= 3 and max(sizes) <= BLOCK and sum(sizes) == 20 * RATE
    assert recording.seconds == 20.0


def test_the_beginning_alone() -> None:
    recording = read_audio(tone(30))
    assert torch.equal(recording.read(RATE), torch.from_numpy(tone(1)))
    assert recording.seconds < 10


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_rates_are_converted_as_by_soxr(rate: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 20 * rate).astype(np.float32)
    expected = soxr.resample(samples, rate, RATE, quality="HQ")
    recording = read_audio(samples, source_rate=rate)
    result = recording.read().numpy()
    assert result.shape == expected.shape and recording.seconds == pytest.approx(20.0, abs=1e-3)
    assert np.abs(result - expected).max() < 1e-4


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", ">i2"])
def test_integers_are_divided_by_the_range_of_their_type(kind: str) -> None:
    info = np.iinfo(kind)
    middle = 0 if info.min < 0 else 2 ** (info.bits - 1)
    samples = np.array([info.min, middle, middle + 2 ** (info.bits - 2), info.max], dtype=kind)
    result = read_audio({"array": samples, "sampling_rate": RATE}).read()
    assert result.tolist() == pytest.approx([-1.0, 0.0, 0.5, 1.0], abs=2.0 ** (1 - info.bits))
    if kind != ">i2":
        assert torch.equal(read_audio(torch.from_numpy(samples), source_rate=RATE).read(), result)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_need_no_rate(dtype: torch.dtype) -> None:
    samples = torch.tensor([0.0, 0.5, -0.25], dtype=dtype, requires_grad=True)
    assert torch.equal(read_audio(samples).read(), torch.tensor([0.0, 0.5, -0.25]))


def test_arrays_of_any_layout() -> None:
    samples = tone(10)
    samples.flags.writeable = False
    expected = torch.from_numpy(tone(10))
    assert torch.equal(read_audio(samples).read(), expected)
    assert torch.equal(read_audio(samples[::-1]).read(), expected.flip(0))
    assert torch.equal(read_audio(samples.astype(">f4")).read(), expected)


@pytest.mark.parametrize("channels", [2, 6, 1000])
def test_channels_are_averaged(channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (channels, 3000)).astype(np.float32)
    expected = torch.from_numpy(samples.mean(0))
    for source in (samples, samples.T, torch.from_numpy(samples), {"raw": samples, "sampling_rate": RATE}):
        torch.testing.assert_close(read_audio(source).read(), expected, atol=1e-6, rtol=0)
    data = encoded(samples.T, format="WAV", subtype="FLOAT")
    torch.testing.assert_close(read_audio(data).read(), expected, atol=1e-6, rtol=0)


def test_a_mapping_knows_its_rate_better() -> None:
    samples = tone(1, 8000)
    given = read_audio({"array": samples, "path": "no/such/file.wav", "sampling_rate": np.int64(8000)}, source_rate=44_100)
    assert len(given.read()) == RATE
    assert len(read_audio({"bytes": encoded(samples, 8000, format="FLAC"), "path": None}).read()) == RATE


# -- what is refused, and what headers claim ------------------------------------------------------------------------

NAN = np.full(50_000, np.nan, dtype=np.float32)
BAD: dict[str, tuple[Any, str]] = {
    "wrong path": ("no/such/file.wav", "not a file"),
    "a folder": (".", "not a file"),
    "a device": ("/dev/zero", "not a file"),
    "a path with NUL": ("a\0b", "not a file"),
    "text": (b"these are words, not sound" * 50, "cannot be read as audio"),
    "nothing": (b"", "cannot be read as audio"),
    "RIFF and nothing": (b"RIFF", "cannot be read as audio"),
    "half a header": (wav(b"\0\0" * 100)[:30], "cannot be read as audio"),
    "0 frames": (wav(b""), "no samples"),
    "0 frames of floats": (encoded(tone(0), format="WAV", subtype="FLOAT"), "no samples"),
    "an empty array": (np.zeros(0, np.float32), "no samples"),
    "rate 0": (wav(b"\0\0" * 100, rate=0), "(0 Hz|cannot be read)"),
    "rate 1": (wav(b"\0\0" * 100, rate=1), "at 1 Hz"),
    "rate 4e9": (wav(b"\0\0" * 100, rate=4_000_000_000), "(4000000000 Hz|cannot be read)"),
    "0 channels": (wav(b"\0\0" * 100, channels=0), "cannot be read as audio"),
    "60,000 channels": (wav(b"\0\0" * 60_000, channels=60_000), "(60000 channels|cannot be read)"),
    "1,025 channels of an array": (np.zeros((1025, 1026), np.float32), "shape"),
    "channels without samples": (np.zeros((2, 0), np.float32), "no samples"),
    "NaN": (NAN, "NaN or infinite, near second 0.0"),
    "NaN later": (np.concatenate([np.zeros(BLOCK, np.float32), NAN]), "near second 8.2"),
    "infinity in a file": (encoded(np.float32([0, np.inf]), format="WAV", subtype="FLOAT"), "NaN or infinite"),
    "int16 without rate": (np.zeros(100, np.int16), "int16 without a sampling_rate"),
    "int64": ({"array": np.zeros(100, np.int64), "sampling_rate": RATE}, "array of int64"),
    "complex": (np.zeros(100, np.complex64), "array of complex64"),
    "texts": (np.array(["a"]), "array of str"),
    "a number": (np.float32(1), "float32|shape"),
    "3 dimensions": (np.zeros((2, 3, 4), np.float32), "shape"),
    "rate 0 in a mapping": ({"array": tone(1), "sampling_rate": 0}, "sampling_rate 0"),
    "rate True": ({"array": tone(1), "sampling_rate": True}, "sampling_rate True"),
    "another key": ({"array": tone(1), "rate": RATE}, "key 'rate'"),
    "an empty mapping": ({}, "no audio"),
    "a mapping in a mapping": ({"array": {"array": tone(1)}}, "no audio"),
    "None": (None, "NoneType"),
    "a list": ([0.1, 0.2], "'list'"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("index", [None, 3])
def test_bad_audio_is_one_clear_error(name: str, index: int | None) -> None:
    source, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        read_audio(source, index=index).read()
    assert caught.value.index == index
    assert str(caught.value).startswith("the audio " if index is None else "item 3 of the inputs ")
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 500


@pytest.mark.parametrize("rate", [0, -8000, 16_000.0, True, "16000", 10**9])
def test_bad_rates_are_bad_options(rate: Any) -> None:
    with pytest.raises(OptionError, match="source_rate"):
        read_audio(tone(1), source_rate=rate)
    with pytest.raises(OptionError, match="^sampling_rate"):
        read_audio(tone(1), rate)


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**32 - 100, 10**9])
def test_headers_that_claim_gigabytes(claimed: int) -> None:
    samples = (tone(1) * 32767).astype("<i2")
    result = read_audio(wav(samples.tobytes() + b"\0", claimed=claimed)).read()
    assert torch.equal(result, torch.from_numpy(samples.astype(np.float32) / 2**15))


def test_a_header_that_claims_gigabytes_to_soundfile() -> None:
    data = bytearray(encoded(tone(1), format="WAV", subtype="PCM_24"))
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", 2**32 - 2)
    np.testing.assert_allclose(read_audio(data).read().numpy(), tone(1), atol=2**-22)


def test_a_file_that_was_cut_off_is_read_to_its_end_or_refused() -> None:
    data = encoded(tone(20), format="FLAC")
    for size in range(len(data) // 4, len(data), len(data) // 4):
        try:
            assert 0 < len(read_audio(data[:size]).read()) < 20 * RATE
        except InputError as error:
            assert "cannot be read as audio" in str(error)


VALID = [
    wav((tone(0.1) * 32767).astype("<i2").tobytes()),
    encoded(tone(0.1), format="WAV", subtype="PCM_24"),
    encoded(tone(0.1), format="FLAC"),
    encoded(tone(0.1), format="OGG", subtype="VORBIS"),
    encoded(tone(0.1), format="AIFF"),
]


@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_broken_headers_are_read_or_refused(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    broken = bytearray(data)
    for place, value in changes:
        broken[place] = value
    try:
        samples = read_audio(bytes(broken[: len(broken) - cut])).read()
    except InputError as error:
        assert str(error).startswith("the audio ") and str(error).endswith(".")
    else:
        assert torch.isfinite(samples).all() and len(samples) <= 16 * RATE


def test_more_than_a_day_is_refused() -> None:
    weeks = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (25 * 3600 * 1000,), (0,))
    with pytest.raises(InputError, match="longer than 24 hours"):
        for _ in read_audio(weeks, source_rate=1000, sampling_rate=1000):
            pass


MEMORY = """
    import resource, sys
    import soundfile, soxr, torch, numpy
    from hezar_like.preprocessors import read_audio

    with soundfile.SoundFile(sys.argv[1], "w", 8000, 1, format="FLAC") as file:
        minute = numpy.random.default_rng(0).normal(0, 0.01, 8000 * 60).astype("float32")
        for _ in range(120):
            file.write(minute)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    recording = read_audio(sys.argv[1])
    count = sum(len(block) for block in recording)
    print(recording.seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_two_hours_are_read_in_the_memory_of_some_blocks(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path / "long.flac")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, megabytes = map(float, output.split())
    assert seconds == pytest.approx(7200, abs=0.01)
    assert megabytes < 30


# -- what is not installed ------------------------------------------------------------------------------------------


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "soxr", None)
    plain = io.BytesIO()
    with wave.open(plain, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((tone(1) * 32767).astype("<i2").tobytes())
    assert len(read_audio(plain.getvalue()).read()) == RATE
    with pytest.raises(MissingDependency, match=r"soundfile.*hezar_like\[audio\]"):
        read_audio(b"fLaC" + bytes(100))
    with pytest.raises(MissingDependency, match=r"soxr.*hezar_like\[audio\]"):
        read_audio(plain.getvalue(), 8000).read()


WITHOUT_NUMPY = """
    import sys, warnings

    sys.modules["numpy"] = None  # every import of it fails, as if it were not installed
    warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # torch's
    import torch
    from hezar_like import build_preprocessor
    from hezar_like.preprocessors import read_audio

    extractor = build_preprocessor("whisper_feature_extractor")
    print(list(extractor(sys.argv[1])["input_features"].shape), list(extractor.features(torch.zeros(16000)).shape))
"""


def test_plain_wav_needs_no_numpy(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(b"\0\1" * RATE))
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_NUMPY), str(tmp_path / "a.wav")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[1, 80, 3000] [80, 100]\n", "")
