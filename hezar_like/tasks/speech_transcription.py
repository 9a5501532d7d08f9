"""Reads recordings window by window, several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backbones import EncoderDecoder
from ..engine.fitting import in_parts_that_fit, naming_memory
from ..errors import NonFiniteOutput
from ..generation import finish
from .speech_batch import SpeechBatch
from .speech_options import SpeechGenerationConfig, prompt_of
from .speech_segments import Clip, Segment, Speech, Window, quiet_cuts, split
from .speech_words import Aligner

if TYPE_CHECKING:
    from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer
    from .speech_recognition import SpeechRecognition

__all__ = ["LONGEST_BEGINNING", "Transcription"]

FORGETFUL = 0.5
"""What was drawn at a higher temperature than this is not told to the next window."""
WINDOWS_ON_CPU, WINDOWS = 8, 24
"""How many windows are read at once where the caller does not say."""
LONGEST_BEGINNING = 4
"""The most tokens between what was said before and what is written."""


def plain_tokens(tokenizer: WhisperBPETokenizer, text: str) -> list[int]:
    """The tokens of a text, in which nothing that looks like a special token is one."""
    # Cut between the two characters that all special tokens begin with, none is found.
    pieces = f" {text.strip()}".replace("<|", "<\0|").split("\0")
    return [token for row in tokenizer.encode_texts(pieces, add_special_tokens=False) for token in row.ids]


@dataclass
class _Opened:
    """A recording that is being read."""

    index: int
    speech: Speech
    clips: list[Clip]
    waiting: deque[Clip] = field(default_factory=deque)


class Transcription:
    """One pass over recordings.

    Args:
        task: The model.
        config: The options, with all tokens that it names.
        tokenizer: The model's.
        batch: The recordings.

    Attributes:
        speeches: What is said in each recording; complete when `segments` has come to its end.
    """

    def __init__(
        self,
        task: SpeechRecognition,
        config: SpeechGenerationConfig,
        tokenizer: WhisperBPETokenizer,
        batch: SpeechBatch,
    ) -> None:
        assert isinstance(task.backbone, EncoderDecoder) and task.head is not None
        self._task, self._config, self._tokenizer, self._batch = task, config, tokenizer, batch
        self._backbone, self._head = task.backbone, task.head
        self._device, self._dtype = task.device, task.dtype
        self._start, self._new = task.start_token(config), task.new_tokens(config)
        most = self._backbone.max_written
        self._most_before = self._new if most is None else most - self._new - LONGEST_BEGINNING - 1
        self._prompt = plain_tokens(tokenizer, config.prompt) if config.prompt else []
        self._language = config.language_token()
        self._codes = {token: code for code, token in config.languages.items()}
        self.speeches = [Speech(0.0) for _ in batch.rows]

    def segments(self) -> Iterator[tuple[int, Segment]]:
        """Reads everything, and yields the segments of each recording in order, with the recording's number."""
        rows = self._batch.row_limit or (WINDOWS_ON_CPU if self._device.type == "cpu" else WINDOWS)
        unread, reading = deque(range(len(self.speeches))), list[_Opened]()
        active: list[Clip] = []
        while True:
            while len(active) < rows:
                source = next((opened for opened in reading if opened.waiting), None)
                if source is not None:
                    active.append(source.waiting.popleft())
                elif unread:
                    reading.append(self._open(unread.popleft()))
                else:
                    break
            for opened in reading:
                yield from self._complete(opened)
            reading = [opened for opened in reading if not all(clip.done for clip in opened.clips)]
            if not active:
                return
            for timed in {clip.timed for clip in active}:
                self._read([clip for clip in active if clip.timed == timed], timed)
            active = [clip for clip in active if not clip.done]

    def _open(self, index: int) -> _Opened:
        """Makes the features of a recording, and cuts it into stretches."""
        batch, config, speech = self._batch, self._config, self.speeches[index]
        number, extractor = batch.numbers[index], batch.extractor
        with naming_memory(number):
            features = batch.features(index, self._device, keep=False)
        frames, window = features.size(1), extractor.window_frames
        speech.seconds = frames / extractor.frames_per_second
        self._tell(0, frames)
        timed = bool(config.return_timestamps) or (config.windows == "sequential" and frames > window)
        ends = quiet_cuts(features, window) if config.windows == "parallel" else [frames]
        clips = [
            Clip(number, speech, features, end, timed, self._language, start, list(self._prompt))
            for start, end in zip([0, *ends], ends, strict=False)
            if end > start
        ]
        return _Opened(index, speech, clips, deque(clips))

    def _complete(self, opened: _Opened) -> Iterator[tuple[int, Segment]]:
        """What can be given out of a recording: of its stretches up to the first that is not done."""
        for clip in opened.clips:
            new = clip.segments[clip.given :]
            clip.given += len(new)
            opened.speech.segments += new
            yield from ((opened.index, segment) for segment in new)
            if not clip.done:
                return

    def _read(self, clips: list[Clip], timed: bool) -> None:
        """Reads the next window of each stretch."""
        numbers = [clip.number for clip in clips]
        heard = in_parts_that_fit(self._task, numbers, lambda part: self._hear(clips[part], timed))
        places = [(clip.place, min(self._batch.extractor.window_frames, clip.end - clip.place)) for clip in clips]
        found = [
            (self._take(clip, window, frames), (place, frames))
            for clip, (_, window), (place, frames) in zip(clips, heard, places, strict=True)
        ]
        if self._config.return_timestamps == "word":
            states = [state for state, _ in heard]
            in_parts_that_fit(
                self._task, numbers, lambda part: self._align(clips[part], torch.stack(states[part]), found[part])
            )

    def _hear(self, clips: list[Clip], timed: bool) -> list[tuple[Tensor, Window]]:
        """What the encoder makes of the next window of each stretch, and what is written for it."""
        windows = [self._batch.extractor.pad_or_cut(clip.features[:, : clip.end], clip.place) for clip in clips]
        states = self._backbone.encode(torch.stack(windows).to(self._dtype)).last_hidden_state
        if not bool(torch.isfinite(states).all()):
            raise NonFiniteOutput("the encoder returned NaN or infinity. Load the model with dtype='float32'.")
        self._find_languages(clips, states)
        room = max(0, self._most_before)
        prompts = [
            prompt_of(self._config, self._start, clip.language, timed=timed, before=clip.before[-room:] if room else ())
            for clip in clips
        ]
        return list(zip(states, self._write(states, prompts, timed), strict=True))

    def _take(self, clip: Clip, window: Window, frames: int) -> list[Segment]:
        """Adds what was written for a window to its stretch, and goes on to the next window."""
        config, segments = self._config, list[Segment]()
        place, per_second = clip.place, self._batch.extractor.frames_per_second
        silent = config.no_speech_threshold is not None and window.no_speech_prob > config.no_speech_threshold
        if silent and (config.logprob_threshold is None or window.avg_logprob <= config.logprob_threshold):
            clip.place += frames
        else:
            first_time = config.first_time if clip.timed else len(self._tokenizer) + len(window.tokens)
            pieces, advance = split(window.tokens, first_time, frames)
            last = clip.end / per_second
            for start, end, tokens in pieces:
                start, end = (min(place / per_second + seconds, last) for seconds in (start, end))
                if start < end and self._text(tokens):
                    segments.append(Segment(start, end, tokens, window))
                    clip.before += tokens
            clip.place += advance
        if not config.condition_on_previous_text or window.temperature > FORGETFUL:
            clip.before = []
        clip.segments += segments
        self._tell(min(clip.place, clip.end) - place, 0)
        return segments

    # -- writing ----------------------------------------------------------------------------------------------------

    def _write(self, states: Tensor, prompts: list[list[int]], timed: bool) -> list[Window]:
        """Writes for each window; where that fails, again at other temperatures."""
        tries: list[list[Window]] = [[] for _ in prompts]
        left = list(range(len(prompts)))
        for temperature in self._config.temperatures:
            new = self._attempt(
                states if len(left) == len(states) else states[left], [prompts[i] for i in left], timed, temperature
            )
            for row, window in zip(left, new, strict=True):
                if tries[row]:
                    window.no_speech_prob = tries[row][0].no_speech_prob
                tries[row].append(window)
            left = [row for row in left if self._fails(tries[row][-1])]
            if not left:
                break
        for row in left:  # nothing was good enough: the most probable that does not repeat itself
            usable = [window for window in tries[row] if not self._repeats(window)] or tries[row]
            best = max(usable, key=lambda window: window.avg_logprob)
            best.temperature = tries[row][-1].temperature
            tries[row].append(best)
        return [windows[-1] for windows in tries]

    def _attempt(self, states: Tensor, prompts: list[list[int]], timed: bool, temperature: float) -> list[Window]:
        drawn = temperature > 0
        changes: dict[str, Any] = {
            "max_new_tokens": self._new,
            "return_timestamps": timed,
            "do_sample": drawn,
            "temperature": temperature,
            "num_return_sequences": self._config.best_of if drawn else 1,
        }
        config = self._config.changed(changes)
        result = finish(self._task.steps(self._inputs(states, prompts), config, scored=True))
        best = result.scores.argmax(1) if drawn else [0] * len(prompts)
        silent = self._silence(result.read, prompts)
        windows = []
        for row, sequence in enumerate(map(int, best)):
            length = int(result.lengths[row, sequence])
            new = result.tokens[row, sequence, result.tokens.size(2) - result.token_scores.size(2) :]
            tokens = new[: length - int(result.ended[row, sequence])].tolist()
            mean = result.token_scores[row, sequence, :length].sum() / (len(tokens) + 1)
            windows.append(Window(tokens, self._text(tokens), float(mean), silent[row], temperature))
        return windows

    def _inputs(self, states: Tensor, prompts: list[list[int]]) -> Mapping[str, Any]:
        """For the backbone, with prompts padded on the left."""
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        end = self._tokenizer.end_id
        tokens = [[end] * count + prompt for count, prompt in zip(padding, prompts, strict=True)]
        inputs = {"encoder_outputs": states, "decoder_input_ids": torch.tensor(tokens, device=states.device)}
        if any(padding):
            counts = torch.tensor(padding, device=states.device)
            mask = torch.arange(longest, device=states.device) >= counts[:, None]
            inputs["decoder_attention_mask"] = mask.long()
        return inputs

    def _fails(self, window: Window) -> bool:
        config = self._config
        improbable = config.logprob_threshold is not None and window.avg_logprob < config.logprob_threshold
        silent = config.no_speech_threshold is not None and window.no_speech_prob > config.no_speech_threshold
        return not (improbable and silent) and (improbable or self._repeats(window))

    def _repeats(self, window: Window) -> bool:
        most = self._config.compression_ratio_threshold
        return most is not None and window.compression_ratio > most

    def _text(self, tokens: Sequence[int]) -> str:
        (text,) = self._tokenizer.decode([list(tokens)])
        return text.strip(" \n")

    # -- what else the model hears ------------------------------------------------------------------------------------

    def _silence(self, read: Tensor, prompts: list[list[int]]) -> list[float]:
        """The probability that nobody speaks: that of the token for it, right after the start."""
        token = self._tokenizer.token_to_id("<|nospeech|>") or self._tokenizer.token_to_id("<|nocaptions|>")
        if token is None:
            return [0.0] * len(prompts)
        behind = [len(prompt) - prompt.index(self._start) for prompt in prompts]
        places = torch.tensor(behind, device=read.device)
        states = read[torch.arange(len(read), device=read.device), read.size(1) - places]
        probabilities: list[float] = self._head(states[:, None]).float().softmax(-1)[:, 0, token].tolist()
        return probabilities

    def _find_languages(self, clips: Sequence[Clip], states: Tensor) -> None:
        """Finds out which language is spoken where nobody said."""
        if not self._codes:
            return
        unknown = [row for row, clip in enumerate(clips) if clip.language is None]
        for row in unknown:  # another stretch of the recording may have found it out
            clips[row].language = self._config.languages.get(clips[row].speech.language or "")
        unknown = [row for row in unknown if clips[row].language is None]
        if not unknown:
            return
        for row, (token, probability) in zip(
            unknown, self._task.languages_of(states[unknown], self._config), strict=True
        ):
            clip = clips[row]
            if clip.speech.language is None:
                clip.speech.language, clip.speech.language_probability = self._codes[token], probability
            clip.language = self._config.languages[clip.speech.language]

    def _align(
        self, clips: Sequence[Clip], states: Tensor, found: Sequence[tuple[list[Segment], tuple[int, int]]]
    ) -> list[list[Segment]]:
        """Gives the segments of each stretch their words, and returns them."""
        config = self._config
        aligner = Aligner(
            self._backbone, self._head, self._tokenizer, config.alignment_heads, config.median_filter_width
        )
        prompts = [prompt_of(config, self._start, clip.language, timed=False) for clip in clips]
        codes = [self._codes.get(clip.language or -1) for clip in clips]
        segments = [own for own, _ in found]
        aligner.align(states, prompts, segments, [place for _, place in found], codes)
        return segments

    def _tell(self, done: int, found: int) -> None:
        per_second = self._batch.extractor.frames_per_second
        if self._batch.report is not None:
            self._batch.report(done / per_second, found / per_second)
