"""Audio to what a speech model takes; Whisper's log-mel spectrogram."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import torch

from ..configs import PreprocessorConfig
from ..errors import ConfigError, OptionError
from ..fields import Between, Size
from ..registry import register_preprocessor
from .audio import Recording, check_rate, read_audio
from .call_options import padding_strategy, tensor_kind
from .padding import to_tensors
from .preprocessor import Preprocessor

__all__ = [
    "AudioFeatureExtractor",
    "AudioFeatureExtractorConfig",
    "WhisperFeatureExtractor",
    "WhisperFeatureExtractorConfig",
]

FRAMES = 2048
"""Frames of a spectrogram that are computed at a time."""
HIGHEST = 8_000.0
"""The highest frequency that Whisper's filters let through, in Hz."""
MOST_SAMPLES = 2**24
"""Samples or numbers of a window at most; far above any published model, so that no file asks for all memory."""


@dataclass
class AudioFeatureExtractorConfig(PreprocessorConfig):
    """Settings of all audio feature extractors.

    Attributes:
        feature_size: Numbers per frame.
        sampling_rate: What audio is converted to, in Hz.
        padding_value: The sample that short audio is padded with.
        padding_side: Where padding goes.
        return_attention_mask: Whether a call gives `attention_mask` when it does not say.
    """

    name = "audio_feature_extractor"
    feature_size: Size = 80
    sampling_rate: Size = 16_000
    padding_value: Annotated[float, Between(-(2**31), 2**31)] = 0.0
    padding_side: Literal["right"] = "right"
    return_attention_mask: bool = False

    @classmethod
    def from_saved(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Builds the config of a file; how much to pad, which Hezar writes there, is an option of a call."""
        return super().from_saved({key: value for key, value in values.items() if key != "padding"}, **overrides)


class AudioFeatureExtractor(Preprocessor):
    """Base of the preprocessors of audio; a subclass is called with recordings and gives what a model takes."""

    config: AudioFeatureExtractorConfig
    config_filename = "feature_extractor_config.yaml"

    def recording(self, audio: Any, sampling_rate: int | None = None, index: int | None = None) -> Recording:
        """Opens audio at the rate of the model.

        Args:
            audio: What `read_audio` takes, or a `Recording` with the model's rate.
            sampling_rate: The rate of an array that comes without one; default for floats: the model's.
            index: Which of the inputs it is, for errors.
        """
        if sampling_rate is not None:
            check_rate("sampling_rate", sampling_rate)
        if not isinstance(audio, Recording):
            return read_audio(audio, self.config.sampling_rate, source_rate=sampling_rate, index=index)
        if audio.sampling_rate != self.config.sampling_rate:
            raise OptionError(
                f"the recording is read at {audio.sampling_rate} Hz, but the model takes {self.config.sampling_rate}. "
                "Give read_audio that rate."
            )
        return audio


@dataclass
class WhisperFeatureExtractorConfig(AudioFeatureExtractorConfig):
    """Settings of Whisper's spectrogram.

    Attributes:
        hop_length: Samples from one frame to the next.
        chunk_length: Seconds of audio that the model takes at once.
        n_fft: Samples that a frame looks at.
    """

    name = "whisper_feature_extractor"
    hop_length: Size = 160
    chunk_length: Size = 30
    n_fft: Size = 400

    def check(self) -> None:
        super().check()
        if self.n_fft % 2 or self.hop_length >= self.n_fft // 2:
            raise ConfigError(
                f"n_fft={self.n_fft} does not go with hop_length={self.hop_length}: give an even one, over twice it."
            )
        samples = self.chunk_length * self.sampling_rate
        frames = samples // self.hop_length
        numbers = max(frames, self.n_fft) * self.feature_size
        # Padded audio is computed at once, and n_fft numbers of each frame.
        computed = frames * self.n_fft // 8
        if max(samples, numbers, computed) > MOST_SAMPLES:
            raise ConfigError(
                f"chunk_length={self.chunk_length}, sampling_rate={self.sampling_rate}, hop_length={self.hop_length}, "
                f"n_fft={self.n_fft} and feature_size={self.feature_size} make windows of {samples} samples and "
                f"{numbers} numbers; at most {MOST_SAMPLES} are computed. Correct the one that is too large."
            )


@register_preprocessor("whisper_feature_extractor", WhisperFeatureExtractorConfig)
class WhisperFeatureExtractor(AudioFeatureExtractor):
    """Log-mel spectrogram of audio, as Whisper takes it."""

    config: WhisperFeatureExtractorConfig

    @property
    def window_frames(self) -> int:
        """Frames that the model takes at once: 3000, which are 30 seconds."""
        return self.config.chunk_length * self.config.sampling_rate // self.config.hop_length

    @property
    def frames_per_second(self) -> float:
        """Frames of one second of audio: 100."""
        return self.config.sampling_rate / self.config.hop_length

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        *,
        padding: bool | str | None = "max_length",
        truncation: bool = True,
        return_tensors: str | None = "torch",
        return_attention_mask: bool | None = None,
        device: str | torch.device | None = None,
    ) -> dict[str, Any]:
        """Makes the spectrograms of recordings, each read whole; `features` reads long ones.

        Args:
            audio: A recording as `read_audio` takes it, or a list of them.
            sampling_rate: The rate of arrays that come without one; default for floats: the model's.
            padding: "max_length" pads with silence to the 30 seconds that the model takes, True or "longest" to the
                longest recording, None not at all.
            truncation: Whether recordings are cut to 30 seconds.
            return_tensors: "torch" ("pt"), "numpy" ("np") or "list".
            return_attention_mask: Adds `attention_mask` [N, frames]: 1 for frames of audio, 0 for padding; default:
                the config's.
            device: Where it is computed and torch tensors stay.

        Returns:
            `input_features` [N, feature_size, frames] float32; a frame is 10 ms, and there are 3000 by default.

        Raises:
            InputError: With the index of a recording that cannot be read.
            OptionError: For an option with a wrong value.
        """
        kind, fill = tensor_kind(return_tensors), padding_strategy(padding)
        items = list(audio) if isinstance(audio, list | tuple) else [audio]
        limit = self.config.chunk_length * self.config.sampling_rate
        numbers = range(len(items)) if isinstance(audio, list | tuple) else [None]
        opened = (self.recording(item, sampling_rate, index) for item, index in zip(items, numbers, strict=True))
        rows = [recording.read(limit if truncation else None) for recording in opened]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        if fill is None and len(set(lengths.tolist())) > 1:
            raise OptionError("recordings of different lengths make no batch with padding=None. Use padding='longest'.")

        longest = max([*lengths.tolist(), limit if fill == "max_length" else 0])
        frames = longest // self.config.hop_length
        features = torch.empty(len(rows), self.config.feature_size, frames, device=device)
        for place, row in zip(features, rows, strict=True):
            padded = torch.nn.functional.pad(row, (0, longest - len(row)), value=self.config.padding_value)
            place.copy_(self._log_mel([padded], mirrored=True, device=device))
        columns = {"input_features": features}
        if self.config.return_attention_mask if return_attention_mask is None else return_attention_mask:
            starts = torch.arange(frames) * self.config.hop_length
            columns["attention_mask"] = (starts < lengths[:, None]).long()
        if kind == "list":
            return {name: values.tolist() for name, values in columns.items()}
        return to_tensors(columns, kind, device=device)

    def features(
        self, audio: Any, sampling_rate: int | None = None, *, device: str | torch.device | None = None
    ) -> torch.Tensor:
        """Makes the spectrogram of a whole recording of any length, of which no more than a block is in memory.

        It is that of OpenAI's and faster-whisper's `transcribe`: after the recording comes silence, and the loudest
        frame of the whole sets what is taken for silence.

        Args:
            audio: A recording as `read_audio` takes it, or what `recording` opened, which knows its `seconds` after.
            sampling_rate: The rate of an array that comes without one; default for floats: the model's.
            device: Where it is computed and stays.

        Returns:
            [feature_size, frames] float32 with `samples // hop_length` frames of 10 ms: 32 KB per second of audio.

        Raises:
            InputError: When the audio cannot be read.
        """
        return self._log_mel(self.recording(audio, sampling_rate), mirrored=False, device=device)

    def pad_or_cut(self, features: torch.Tensor, start: int = 0, frames: int | None = None) -> torch.Tensor:
        """Takes a window of a spectrogram that is as long as the model wants.

        What the recording lacks is filled with features that are zero, as the `transcribe` of OpenAI and faster-whisper
        do. A call pads the samples instead, as transformers does; the features of silence are lower than zero.

        Args:
            features: What `features` gave, [feature_size, any].
            start: The first frame of the window.
            frames: Length of the window; default: what the model takes, 3000.

        Returns:
            [feature_size, frames]; a view where nothing is lacking.
        """
        frames = self.window_frames if frames is None else frames
        window = features[:, start : start + frames]
        return torch.nn.functional.pad(window, (0, frames - window.shape[1])) if window.shape[1] < frames else window

    def _log_mel(
        self, blocks: Iterable[torch.Tensor], *, mirrored: bool, device: str | torch.device | None
    ) -> torch.Tensor:
        """The spectrogram of samples that come in blocks.

        The first frame looks at samples before the first, which are taken for a mirror image of those after it. Behind
        the last sample there is a mirror image too, or silence; then the frames behind the end count for the maximum.
        """
        hop, half = self.config.hop_length, self.config.n_fft // 2
        parts: list[torch.Tensor] = []
        pending, samples, begun = torch.empty(0, device=device), 0, False
        for block in blocks:
            samples += len(block)
            pending = torch.cat([pending, block.to(device)])
            if not begun and len(pending) > half:
                pending, begun = torch.cat([pending[1 : half + 1].flip(0), pending]), True
            if len(pending) >= FRAMES * hop:
                parts.append(self._log_power(pending))
                pending = pending[parts[-1].shape[1] * hop :]
        if not begun:  # nothing can be mirrored that is not there
            silence = pending.new_zeros(max(half + 1 - len(pending), 0))
            pending = torch.cat([pending, silence])
            pending = torch.cat([pending[1 : half + 1].flip(0), pending])
        behind = pending[-half - 1 : -1].flip(0) if mirrored else pending.new_zeros(half + 2 * hop)
        parts.append(self._log_power(torch.cat([pending, behind])))
        spectrum = torch.cat(parts, 1)
        count = samples // hop
        spectrum = spectrum[:, :count] if mirrored else spectrum
        if spectrum.numel():
            spectrum = torch.maximum(spectrum, spectrum.max() - 8.0, out=spectrum)
        return spectrum[:, :count].add_(4.0).div_(4.0)

    def _log_power(self, samples: torch.Tensor) -> torch.Tensor:
        """The logarithm of the power in each mel band [feature_size, frames], for all frames in the samples."""
        config, device = self.config, samples.device
        window = torch.hann_window(config.n_fft, device=device)
        filters = mel_filters(config.feature_size, config.n_fft, config.sampling_rate).to(device)
        spectrum = torch.stft(
            samples, config.n_fft, config.hop_length, window=window, center=False, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return (filters @ power).clamp_(min=1e-10).log10_()


@lru_cache(maxsize=8)
def mel_filters(bands: int, n_fft: int, sampling_rate: int) -> torch.Tensor:
    """Triangles over the frequencies of a Fourier transform, evenly spaced on Slaney's mel scale, with equal areas.

    The scale is linear up to 1 kHz, where it has 15 mels, and logarithmic above, where 27 mels are a factor of 6.4.

    Returns:
        [bands, n_fft // 2 + 1] float32.
    """
    linear, step = 200.0 / 3, math.log(6.4) / 27
    highest = 15 + math.log(HIGHEST / 1000) / step
    mels = torch.linspace(0, highest, bands + 2, dtype=torch.float64)
    corners = torch.where(mels < 15, mels * linear, 1000 * torch.exp(step * (mels - 15)))
    frequencies = torch.linspace(0, sampling_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).float()
