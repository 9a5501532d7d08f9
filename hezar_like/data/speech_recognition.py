"""Recordings with what is said in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from ..errors import DataError, InputError, PreprocessorError
from ..fields import Between
from ..registry import register_dataset
from .dataset import TextConfig, TextDataset
from .transforms import Features

__all__ = ["SpeechRecognitionDataset", "SpeechRecognitionDatasetConfig"]


@dataclass(kw_only=True)
class SpeechRecognitionDatasetConfig(TextConfig):
    """Recordings with what is said in them."""

    name = "speech_recognition"
    audio_column: str = "audio"
    """Column of the recordings: paths, relative to the file of rows, or what `read_audio` takes."""
    transcript_column: str = "sentence"
    """Column of what is said."""
    language: str | None = None
    """Language of the recordings, for models of several; None: the tokenizer's."""
    sampling_rate: Annotated[int, Between(1000, 10**6)] | None = None
    """Rate of arrays that come without one, in Hz; None: the model's."""
    labels_max_length: Annotated[int, Between(1, 10**6)] | None = None
    """The most tokens of what is said; None: `max_length`."""


@register_dataset("speech_recognition", SpeechRecognitionDatasetConfig, "recordings with what is said in them")
class SpeechRecognitionDataset(TextDataset):
    """Features `input_features` [mels, frames] float32, and `labels`, without the start token.

    Audio is read when a sample is asked for.
    """

    config: SpeechRecognitionDatasetConfig
    config_class = SpeechRecognitionDatasetConfig

    def check(self) -> None:
        self._texts = self.rows.texts(self.config.transcript_column)
        for index in range(len(self.rows)):
            audio = self.rows.value(index, self.config.audio_column)
            path = self._placed(audio)
            if isinstance(path, str | Path) and not Path(path).is_file():
                raise DataError(f"{self.rows.where(index)}: there is no recording {str(path)!r}. Check the path.")

    @cached_property
    def extractor(self) -> Any:
        """What makes features of audio.

        Raises:
            PreprocessorError: When the dataset was not given one.
        """
        found = getattr(self.preprocessor, "audio_feature_extractor", None)
        if found is None:
            raise PreprocessorError("speech needs a feature extractor. Give preprocessor=model.preprocessor.")
        return found

    @property
    def lengths(self) -> Sequence[int]:
        """How many tokens are said in each recording; the features of all are of one length."""
        return [len(row) for row in self._labels]

    @cached_property
    def _labels(self) -> list[list[int]]:
        config, tokenizer = self.config, self.tokenizer
        rows = self.encode(self._texts, range(len(self.rows)), add_special_tokens=False)
        prompt = getattr(tokenizer, "prompt_ids", None)
        begin = prompt(config.language)[1:] if prompt is not None else []
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        limit = config.labels_max_length or self.max_length
        room = None if limit is None else max(limit - len(begin) - len(end), 0)
        return [[*begin, *row.ids[:room], *end] for row in rows]

    def __getitem__(self, index: int) -> Features:
        audio = self._placed(self.rows[index][self.config.audio_column])
        try:
            made = self.extractor(audio, self.config.sampling_rate, return_tensors="torch")
        except InputError as error:
            raise DataError(f"{self.rows.where(index)}: {error}") from None
        return {"input_features": made["input_features"][0], "labels": self._labels[index]}

    def _placed(self, audio: Any) -> Any:
        """A recording, its path relative to the rows' file."""
        if isinstance(audio, Mapping) and "array" not in audio and audio.get("bytes") is None:
            audio = audio.get("path", audio)
        if not isinstance(audio, str) or Path(audio).is_absolute() or self.config.path is None:
            return audio
        base = Path(self.config.path)
        return base.parent / audio if base.is_file() else base / audio
