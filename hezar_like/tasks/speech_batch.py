"""Recordings on their way: opened, and read when it is their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from ..engine.batches import Batch
from ..errors import OptionError

if TYPE_CHECKING:
    from ..preprocessors.audio import Recording
    from ..preprocessors.audio_features import WhisperFeatureExtractor

__all__ = ["Source", "SpeechBatch"]

Report = Callable[[float, float], None]
"""Is told how many more seconds of audio are done, and how many more there are."""


@dataclass
class Source:
    """Where a recording comes from.

    Attributes:
        audio: It, opened, or its features [bins, frames]; None where it was read and is not to be read again.
        number: Which it is of those that were prepared together.
    """

    audio: Recording | Tensor | None
    number: int


class SpeechBatch(Batch):
    """Recordings that were opened, or their features; those of a recording are made when it is its turn.

    Args:
        recordings: Opened recordings, or features [bins, frames].
        extractor: Makes features.
        rows: How many windows are read at once; None: it depends on the device.
        report: Is told how many seconds are done.
    """

    def __init__(
        self,
        recordings: Sequence[Recording | Tensor | Source],
        extractor: WhisperFeatureExtractor,
        rows: int | None = None,
        report: Report | None = None,
    ) -> None:
        self._sources = [
            item if isinstance(item, Source) else Source(item, number) for number, item in enumerate(recordings)
        ]
        self.extractor, self.row_limit, self.report = extractor, rows, report

    @property
    def numbers(self) -> list[int]:
        """Of each recording its number among those that were prepared together."""
        return [source.number for source in self._sources]

    def features(self, index: int, device: torch.device | None = None, *, keep: bool = True) -> Tensor:
        """The features of a recording, [bins, frames].

        Args:
            index: Of the recording.
            device: Where they are made and stay.
            keep: Whether they may be asked for again.

        Raises:
            OptionError: When they were not to be kept before.
        """
        source = self._sources[index]
        if source.audio is None:
            raise OptionError("these recordings have been read already. Call preprocess() again.")
        if not isinstance(source.audio, Tensor):
            source.audio = self.extractor.features(source.audio, device=device)
        features = source.audio.to(device)
        source.audio = source.audio if keep else None
        return features

    def to(self, device: torch.device) -> Self:
        return self  # features are made where they are needed

    @property
    def lengths(self) -> list[list[int]]:
        return [[1] for _ in self._sources]  # only what is written makes a difference, and nobody knows it yet

    @property
    def rows(self) -> list[slice]:
        return [slice(row, row + 1) for row in range(len(self._sources))]

    def select(self, inputs: Sequence[int]) -> Self:
        return type(self)([self._sources[i] for i in inputs], self.extractor, self.row_limit, self.report)

    def __getitem__(self, key: str) -> Tensor:
        """`input_features` are those of the first window of each recording, [recordings, bins, frames]."""
        if key != "input_features":
            raise KeyError(key)
        return torch.stack([self.extractor.pad_or_cut(self.features(i)) for i in range(len(self._sources))])

    def __iter__(self) -> Iterator[str]:
        return iter(["input_features"])

    def __len__(self) -> int:
        return 1
