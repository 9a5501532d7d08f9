"""Recordings, read block by block: whatever a header claims, memory holds some seconds of it at a time."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import HezarLikeError, InputError, OptionError, one_line, require

__all__ = ["Recording", "check_rate", "read_audio"]

BLOCK = 2**17
"""Samples of all channels that are read at a time."""
RATES = range(1_000, 1_000_001)
"""The sampling rates that are read, in Hz. A header that claims 1 Hz would make hours of audio of a few bytes."""
MAX_CHANNELS = 1024
MAX_SECONDS = 24 * 60 * 60
"""The longest recording. A FLAC of some kilobytes can hold weeks of silence."""
KINDS = (
    "a path, the bytes of a file, an array or tensor of samples, or a mapping of 'array' (or 'raw') and 'sampling_rate'"
)
Blocks = Iterator[torch.Tensor]
"""Samples [n] or, with channels, [n, channels]."""


class Recording:
    """A recording that is read while it is iterated over, once; made by `read_audio`.

    Iterating gives blocks of samples [n] float32 of one channel, from -1 to 1 where the source has integers.

    Attributes:
        sampling_rate: Samples per second of the blocks.
        samples: How many samples have been given so far.

    Raises:
        InputError: While iterating: when the source cannot be read on, has no samples or ones that are no numbers, or
            is longer than 24 hours.
    """

    def __init__(self, blocks: Blocks, rate: int, sampling_rate: int, refuse: Callable[[str], InputError]) -> None:
        self.sampling_rate = sampling_rate
        self.samples = 0
        self._refuse = refuse
        mono = self._mono(blocks, rate)
        self._blocks = mono if rate == sampling_rate else _resample(mono, rate, sampling_rate)

    @property
    def seconds(self) -> float:
        """How much has been given so far; the duration of the recording, once it has been read."""
        return self.samples / self.sampling_rate

    def __iter__(self) -> Iterator[torch.Tensor]:
        for block in self._blocks:
            if len(block):
                self.samples += len(block)
                yield block

    def read(self, samples: int | None = None) -> torch.Tensor:
        """The rest of the recording in one piece [n] float32, or no more than its first `samples`."""
        blocks, count = [torch.empty(0)], 0
        for block in self:
            blocks.append(block)
            count += len(block)
            if samples is not None and count >= samples:
                break
        return torch.cat(blocks)[:samples]

    def _mono(self, blocks: Blocks, rate: int) -> Iterator[torch.Tensor]:
        count = 0
        for block in blocks:
            if block.dim() == 2:
                block = block[:, 0] if block.shape[1] == 1 else block.mean(1)
            if not torch.isfinite(block).all():
                raise self._refuse(f"has samples that are NaN or infinite, near second {count / rate:.1f}. Repair it.")
            count += len(block)
            if count > MAX_SECONDS * rate:
                raise self._refuse(f"is longer than {MAX_SECONDS // 3600} hours. Split it.")
            yield block
        if count == 0:
            raise self._refuse("has no samples. Give audio that is not empty.")


def read_audio(
    source: Any, sampling_rate: int = 16_000, *, source_rate: int | None = None, index: int | None = None
) -> Recording:
    """Opens a recording, whose samples are read when it is iterated over.

    Channels are averaged, integers divided by the range of their type, and other sampling rates converted. Files are
    read by soundfile (wav, flac, mp3, ogg and others) and rates converted by soxr, both of the extra `audio`; a wav
    file of 16-bit PCM needs neither soundfile nor NumPy.

    Args:
        source: A path; the bytes of a file; a NumPy array or a tensor of samples [n], or with channels, of which it has
            fewer than samples, [channels, n] or [n, channels]; or a mapping of "array" or "raw" (or "bytes", or "path")
            and "sampling_rate".
        sampling_rate: What the recording is converted to, in Hz.
        source_rate: The rate of an array that comes without one, in Hz; files know their own. Without it, an array
            of floats is taken to have `sampling_rate` already, and one of integers is refused.
        index: Which of the inputs it is, for errors.

    Raises:
        InputError: When the source is none of these, has no samples, a rate that is not from 1 kHz to 1 MHz, or more
            than 1024 channels; further ones come while it is read.
        OptionError: For a rate that is out of that range.
        MissingDependency: When soundfile or soxr is needed and not installed.
    """

    def refuse(problem: str) -> InputError:
        return InputError(problem if index is not None else f"the audio {problem}", index)

    check_rate("sampling_rate", sampling_rate)
    if source_rate is not None:
        check_rate("source_rate", source_rate)
    blocks, rate = _open(source, source_rate, sampling_rate, refuse)
    return Recording(blocks, rate, sampling_rate, refuse)


def check_rate(name: str, value: Any) -> None:
    """Refuses what is no sampling rate that is read.

    Args:
        name: Of the option, as the caller knows it.
        value: What the caller gave.

    Raises:
        OptionError: When it is not a whole number from 1 kHz to 1 MHz.
    """
    if not _is_rate(value):
        raise OptionError(
            f"{name}={value!r:.100} is not a sampling rate. Give a whole number from {RATES[0]} to {RATES[-1]} Hz."
        )


def _open(
    source: Any, source_rate: int | None, default_rate: int, refuse: Callable[[str], InputError]
) -> tuple[Blocks, int]:
    """The blocks of a source, and their rate."""
    if isinstance(source, Mapping):
        source, source_rate = _of_mapping(source, source_rate, refuse)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            found = path.is_file()
        except (OSError, ValueError):  # too long, or with a NUL
            found = False
        if not found:
            raise refuse(f"names {str(source)!r:.300}, which is not a file here. Correct the path.")
        return _open_file(partial(io.FileIO, path), f"is in {str(path)!r:.300}, which", refuse)
    if isinstance(source, bytes | bytearray | memoryview):
        return _open_file(partial(io.BytesIO, source), "is bytes that", refuse)
    if isinstance(source, torch.Tensor) or hasattr(source, "__array_interface__"):
        return _open_array(source, source_rate, default_rate, refuse)
    raise refuse(f"is {type(source).__name__!r}; give {KINDS}.")


def _of_mapping(
    source: Mapping[Any, Any], source_rate: int | None, refuse: Callable[[str], InputError]
) -> tuple[Any, int | None]:
    """The audio in a mapping, and its rate. Beside samples, a path is only where they come from."""
    known = ("array", "raw", "bytes", "path")
    unknown = [key for key in source if key not in (*known, "sampling_rate")]
    audio = next((source[key] for key in known if source.get(key) is not None), None)
    if unknown or audio is None or isinstance(audio, Mapping):
        problem = f"the key {unknown[0]!r:.100}" if unknown else "no audio"
        raise refuse(f"is a mapping with {problem}. It must have 'array' (or 'raw') and 'sampling_rate'.")
    rate = source.get("sampling_rate")
    if rate is not None and not _is_rate(rate):
        raise refuse(f"has the sampling_rate {rate!r:.100}. Give one from {RATES[0]} to {RATES[-1]} Hz.")
    return audio, source_rate if rate is None else int(rate)


def _is_rate(value: Any) -> bool:
    """Whether it is a whole number of Hz that is read; NumPy's integers are as good as Python's."""
    return not isinstance(value, bool) and hasattr(value, "__index__") and value in RATES


# -- files ----------------------------------------------------------------------------------------------------------


def _open_file(opened: Callable[[], BinaryIO], name: str, refuse: Callable[[str], InputError]) -> tuple[Blocks, int]:
    """The blocks of a file; the first is read at once, and the file is closed after the last."""

    def blocks() -> Iterator[Any]:
        try:
            with ExitStack() as stack:
                file = stack.enter_context(opened())
                yield from _pcm(file, stack) if file.read(4) == b"RIFF" else _sound(file, stack)
        except HezarLikeError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, EOFError) as error:
            reason = one_line(getattr(error, "error_string", error), most=200) or type(error).__name__
            reason = reason.removesuffix(".")
            raise refuse(f"{name} cannot be read as audio ({reason}). Give a wav, flac, mp3 or ogg file.") from None

    result = blocks()
    rate, channels = next(result)
    if rate not in RATES or channels not in range(1, MAX_CHANNELS + 1):
        raise refuse(f"{name} has {channels} channels at {rate} Hz. Give 1 to {MAX_CHANNELS}, and 1 kHz to 1 MHz.")
    return result, rate


def _pcm(file: BinaryIO, stack: ExitStack) -> Iterator[Any]:
    """Rate and channels, and then the samples of a wav file; those of 16 bits need nothing but Python."""
    file.seek(0)
    try:
        reader = wave.Wave_read(file)
        channels, plain = reader.getnchannels(), reader.getsampwidth() == 2
    except (wave.Error, EOFError):  # another encoding, or broken
        plain = False
    if not plain:
        yield from _sound(file, stack)
        return
    yield reader.getframerate(), channels
    while data := reader.readframes(max(BLOCK // channels, 1)):
        whole = len(data) // (2 * channels) * 2 * channels  # a file that was cut off can end within a frame
        if whole:
            samples = torch.frombuffer(bytearray(data[:whole]), dtype=torch.int16)
            yield samples.float().div_(2**15).view(-1, channels)


class _Steady:
    """A file for soundfile's callbacks, out of which no error finds its way: a broken header may seek before it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return self._file.tell()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _sound(file: BinaryIO, stack: ExitStack) -> Iterator[Any]:
    """Rate and channels, and then the samples of any file that soundfile reads."""
    soundfile: Any = require("soundfile", extra="audio")

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is read from its beginning to its end.

        soundfile seeks after each read to where it is already, where it can; an mp3 is broken for some frames there.
        """

        def seekable(self) -> bool:
            return False

    file.seek(0)
    reader = stack.enter_context(Forward(_Steady(file)))
    yield reader.samplerate, reader.channels
    while len(block := reader.read(max(BLOCK // reader.channels, 1), dtype="float32", always_2d=True)):
        yield torch.from_numpy(block)


# -- arrays ---------------------------------------------------------------------------------------------------------


def _open_array(
    array: Any, rate: int | None, default_rate: int, refuse: Callable[[str], InputError]
) -> tuple[Blocks, int]:
    kind = getattr(array.dtype, "name", None) or str(array.dtype).removeprefix("torch.")
    floating = kind in ("float16", "bfloat16", "float32", "float64")
    if not floating and kind not in ("int8", "uint8", "int16", "uint16", "int32", "uint32"):
        raise refuse(
            f"is an array of {kind}. Give floats from -1 to 1, or the integers of 8 to 32 bits that were read."
        )
    if rate is None and not floating:
        raise refuse(f"is an array of {kind} without a sampling_rate. Give it, in Hz; only floats can do without.")
    if 0 in array.shape:
        array = array.reshape(0)
    channels = min(array.shape) if array.ndim == 2 else 1
    if array.ndim == 2 and array.shape[0] == channels:
        array = array.T
    if array.ndim not in (1, 2) or channels > MAX_CHANNELS:
        raise refuse(
            f"has the shape {tuple(array.shape)}; it must be [n], or [channels, n] with at most 1024 channels."
        )
    # An unsigned integer means silence by the middle of its range.
    span = 1.0 if floating else 2.0 ** (int(kind.lstrip("uint")) - 1)
    middle = span if kind.startswith("u") else 0.0

    def blocks() -> Blocks:
        step = max(BLOCK // channels, 1)
        for start in range(0, len(array), step):
            part = array[start : start + step]
            if not isinstance(part, torch.Tensor):
                part = torch.from_numpy(part.astype("float32"))
            block = part.detach().to("cpu", torch.float32)
            yield block if floating else (block - middle) / span

    return blocks(), default_rate if rate is None else rate


# -- rates ----------------------------------------------------------------------------------------------------------


def _resample(blocks: Iterator[torch.Tensor], rate: int, sampling_rate: int) -> Iterator[torch.Tensor]:
    """Converts the rate with soxr's HQ setting; what it keeps between blocks makes them fit together."""
    soxr = require("soxr", extra="audio")
    stream = soxr.ResampleStream(rate, sampling_rate, 1, dtype="float32", quality="HQ")
    rest = torch.empty(0).numpy()
    for block in blocks:
        yield torch.from_numpy(stream.resample_chunk(block.numpy()))
    yield torch.from_numpy(stream.resample_chunk(rest, last=True))
