"""What is said in a recording, in segments; and the stretches of it that are read one window after the other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Clip", "Segment", "Speech", "Window", "Word", "compression_ratio", "quiet_cuts", "split"]

STEPS_PER_SECOND = 50
"""Times are written in steps of 20 ms."""
FRAMES_PER_STEP = 2
QUIET = 30
"""Over so many frames, 0.3 seconds, loudness is averaged to find a quiet place."""
SEARCHED = 1 / 3
"""In the last part of a window, of this size, a quiet place to cut is looked for."""


@dataclass
class Word:
    """A word, with the space before it.

    Attributes:
        text: The word.
        tokens: Its tokens.
        start: When it begins, in seconds.
        end: When it ends.
        probability: The mean probability of its tokens.
    """

    text: str
    tokens: list[int]
    start: float
    end: float
    probability: float


@dataclass
class Window:
    """What was written for a window.

    Attributes:
        tokens: Without the end.
        text: Their text.
        avg_logprob: The mean log-probability of the tokens, the end included.
        no_speech_prob: The probability that nobody speaks.
        temperature: At which they were drawn.
    """

    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech_prob: float
    temperature: float

    @property
    def compression_ratio(self) -> float:
        """See `compression_ratio`."""
        return compression_ratio(self.text)


@dataclass
class Segment:
    """What is said in a stretch of a recording.

    Attributes:
        start: In seconds.
        end: In seconds.
        tokens: With those of the times.
        window: Of which it is.
        words: Where they were asked for; else None.
    """

    start: float
    end: float
    tokens: list[int]
    window: Window
    words: list[Word] | None = None


@dataclass
class Speech:
    """What is said in a recording.

    Attributes:
        seconds: Length of the recording.
        segments: In order.
        language: The code of the language that the model heard; None where it did not have to.
        language_probability: How sure it was.
    """

    seconds: float
    segments: list[Segment] = field(default_factory=list)
    language: str | None = None
    language_probability: float | None = None


@dataclass
class Clip:
    """A stretch of a recording that is read one window after the other.

    Attributes:
        number: Of the recording, for errors.
        speech: What is said in the recording so far.
        features: Of the whole recording, [bins, frames].
        end: The frame behind its last one.
        timed: Whether times are written.
        language: The token of the language, once it is known.
        place: The frame at which the next window begins.
        before: What was said before it, as tokens.
        segments: What was said in it.
        given: How many of these were given out.
    """

    number: int
    speech: Speech
    features: Tensor
    end: int
    timed: bool
    language: int | None
    place: int
    before: list[int]
    segments: list[Segment] = field(default_factory=list)
    given: int = 0

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return self.place >= self.end


def split(tokens: Sequence[int], first_time: int, frames: int) -> tuple[list[tuple[float, float, list[int]]], int]:
    """Cuts what was written for a window at its times.

    Args:
        tokens: What was written, without the end.
        first_time: The token of the time 0.
        frames: Length of the window.

    Returns:
        The segments, with their beginning and end in seconds after that of the window; and after how many frames the
        next window begins: where the last whole segment ends, or behind this one where nothing more is said in it.
    """
    is_time = [token >= first_time for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
    all_said = is_time[-2:] == [False, True]
    step = 1 / STEPS_PER_SECOND
    if not cuts:
        times = [token - first_time for token in tokens if token > first_time]
        return [(0.0, times[-1] * step if times else frames / FRAMES_PER_STEP * step, list(tokens))], frames
    ends = [*cuts, len(tokens)] if all_said else cuts
    pieces = [list(tokens[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    found = [((piece[0] - first_time) * step, (piece[-1] - first_time) * step, piece) for piece in pieces]
    last = (pieces[-1][-1] - first_time) * FRAMES_PER_STEP
    return found, frames if all_said or not last else min(last, frames)


def quiet_cuts(features: Tensor, window: int) -> list[int]:
    """Where to cut a recording so that no part is longer than a window: at the quietest places near their ends.

    Args:
        features: [bins, frames].
        window: The most frames of a part.

    Returns:
        The frames at which the parts end.
    """
    frames = features.size(1)
    if frames <= window:
        return [frames]
    loudness = F.avg_pool1d(features.mean(0)[None], QUIET, 1, QUIET // 2, count_include_pad=False)[0]
    cuts = [0]
    while frames - cuts[-1] > window:
        last = cuts[-1] + window
        first = last - max(1, int(window * SEARCHED))
        cuts.append(first + int(torch.argmin(loudness[first:last])) + 1)
    return [*cuts[1:], frames]


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes a text; far above that of usual texts where one repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
