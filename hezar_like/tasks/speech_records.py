"""What is told of what is said: records of texts and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from .speech_segments import Segment, Speech

if TYPE_CHECKING:
    from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer

__all__ = ["SHOWN", "Chunk", "Shown", "SpokenWord", "Transcript"]

SHOWN = ("skip_special_tokens", "decode_with_timestamps", "return_scores")
"""Options of what is told."""


class SpokenWord(TypedDict):
    """A word of a chunk.

    Attributes:
        text: The word, with the marks beside it and the space before it.
        timestamp: When it begins and ends, in seconds.
        probability: The mean probability of its tokens.
    """

    text: str
    timestamp: tuple[float, float]
    probability: float


class Chunk(TypedDict):
    """What is said in a stretch of a recording.

    Attributes:
        text: What is said.
        timestamp: When it begins and ends, in seconds.
        words: Its words; with `return_timestamps="word"`.
        avg_logprob: The mean log-probability of the tokens of its window; with `return_scores`, as what follows.
        no_speech_prob: The probability that nobody speaks in its window.
        compression_ratio: How much zlib makes the text of its window shorter; large where it repeats itself.
        temperature: At which temperature that was drawn; 0: it is the most probable.
    """

    text: str
    timestamp: tuple[float, float]
    words: NotRequired[list[SpokenWord]]
    avg_logprob: NotRequired[float]
    no_speech_prob: NotRequired[float]
    compression_ratio: NotRequired[float]
    temperature: NotRequired[float]


class Transcript(TypedDict):
    """What is said in a recording.

    Attributes:
        text: All of it; empty where nobody speaks.
        chunks: Its stretches, in order.
        language: The code of the language that the model heard; where it was not told one.
        language_probability: How sure it was; with `return_scores`.
    """

    text: str
    chunks: list[Chunk]
    language: NotRequired[str]
    language_probability: NotRequired[float]


@dataclass
class Shown:
    """Makes records.

    Args:
        tokenizer: From tokens to texts.
        skip_special_tokens: Whether special tokens are left out of texts.
        decode_with_timestamps: Whether times are written in texts.
        return_scores: Whether probabilities are told.
    """

    tokenizer: WhisperBPETokenizer
    skip_special_tokens: bool = True
    decode_with_timestamps: bool = False
    return_scores: bool = False

    def transcript(self, speech: Speech) -> Transcript:
        """All that is said in a recording."""
        tokens = [token for segment in speech.segments for token in segment.tokens]
        record = Transcript(text=self._text(tokens), chunks=[self.chunk(segment) for segment in speech.segments])
        if speech.language is not None:
            record["language"] = speech.language
        if speech.language_probability is not None and self.return_scores:
            record["language_probability"] = speech.language_probability
        return record

    def chunk(self, segment: Segment) -> Chunk:
        """What is said in a stretch of it."""
        times = (round(segment.start, 2), round(segment.end, 2))
        chunk = Chunk(text=self._text(segment.tokens), timestamp=times)
        if segment.words is not None:
            chunk["words"] = [
                SpokenWord(text=w.text, timestamp=(round(w.start, 2), round(w.end, 2)), probability=w.probability)
                for w in segment.words
            ]
        if self.return_scores:
            window = segment.window
            chunk["avg_logprob"], chunk["no_speech_prob"] = window.avg_logprob, window.no_speech_prob
            chunk["compression_ratio"], chunk["temperature"] = window.compression_ratio, window.temperature
        return chunk

    def _text(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        (text,) = self.tokenizer.decode([tokens], self.skip_special_tokens, self.decode_with_timestamps)
        return text.strip(" \n")
