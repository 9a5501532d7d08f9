"""When words are spoken: where the decoder looks while it writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..backbones import EncoderDecoder
from ..errors import OptionError
from ..generation.warping import first_columns, smoothed
from .speech_segments import FRAMES_PER_STEP, STEPS_PER_SECOND, Segment, Word

if TYPE_CHECKING:
    from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer

__all__ = ["Aligner", "check_heads"]

OPENING = frozenset("\"'“¿([{-")
"""Marks that belong to the word after them."""
CLOSING = frozenset("\"'.。,，!！?？:：”)]}、")
"""Marks that belong to the word before them."""
LONGEST_USUAL = 0.7
"""Half of the longest time, in seconds, that a word beside a pause can take."""
VALUES_AT_ONCE = 2**27
"""How many attention probabilities, 512 MB, are in memory at once."""


def check_heads(heads: Sequence[tuple[int, int]] | None, backbone: EncoderDecoder) -> None:
    """Refuses blocks and attention heads that a decoder does not have.

    Raises:
        OptionError: When there are some, or no heads at all.
    """
    if heads is None:
        return
    if not heads:
        raise OptionError("alignment_heads is an empty list. Give some, or None for all of the decoder's upper half.")
    counts = _head_counts(backbone)
    wrong = next(((block, head) for block, head in heads if block >= len(counts) or head >= counts[block]), None)
    if wrong is not None:
        raise OptionError(
            f"alignment_heads has {wrong}, but this model's decoder has blocks 0 to {len(counts) - 1} "
            f"with heads 0 to {max(counts) - 1}. Give such pairs, or None for all of its upper half."
        )


def _head_counts(backbone: EncoderDecoder) -> list[int]:
    """How many attention heads each block of the decoder has."""
    return [int(block.attn.num_heads) for block in backbone.decoder.blocks]  # type: ignore[arg-type, union-attr]


class Aligner:
    """Finds out when words are spoken.

    Args:
        backbone: The model.
        head: From its hidden states to scores.
        tokenizer: Its tokenizer.
        heads: Blocks and attention heads that look where a word is spoken; None: all heads of the decoder's upper half.
        width: Over how many neighbours what they see is smoothed.
    """

    def __init__(
        self,
        backbone: EncoderDecoder,
        head: nn.Module,
        tokenizer: WhisperBPETokenizer,
        heads: Sequence[tuple[int, int]] | None,
        width: int,
    ) -> None:
        self._backbone, self._head, self._tokenizer, self._width = backbone, head, tokenizer, width
        self._heads = heads

    def align(
        self,
        states: Tensor,
        prompts: Sequence[Sequence[int]],
        windows: Sequence[Sequence[Segment]],
        places: Sequence[tuple[int, int]],
        language: Sequence[str | None],
    ) -> None:
        """Gives segments their words, and the times at which these begin and end.

        Args:
            states: What the encoder made of the windows, [windows, length, width].
            prompts: What the decoder of each began with, up to the token that says that no times are written.
            windows: The segments of each window.
            places: At which frame each window begins, and how many frames it has.
            language: The code of each window's language.
        """
        texts = [[[t for t in segment.tokens if t < self._tokenizer.end_id] for segment in row] for row in windows]
        rows = [row for row, text in enumerate(texts) if any(text)]
        found: list[tuple[int, list[Word]]] = []
        for group in self._groups(rows, texts, prompts, states):
            flat = [[token for piece in texts[row] for token in piece] for row in group]
            seen, scores = self._look(states[group], [prompts[row] for row in group], flat)
            for at, row in enumerate(group):
                first, frames = len(prompts[row]) - 1, places[row][1]
                steps = max(1, min(frames // FRAMES_PER_STEP, seen.size(3)))
                own = slice(first, first + len(flat[at]) + 1)
                columns = self._columns(seen[at][:, own, :steps])
                scored = scores[at][own][:-1].softmax(-1)
                chances = scored.gather(1, scored.new_tensor(flat[at], dtype=torch.int64)[:, None])[:, 0].tolist()
                found.append((row, self._words(flat[at], columns, chances, language[row])))
        for row, words in found:  # all at once: where memory runs out before, this may begin again
            seconds = places[row][0] / FRAMES_PER_STEP / STEPS_PER_SECOND
            hand_out(words, windows[row], [len(piece) for piece in texts[row]], seconds)

    def _groups(
        self,
        rows: list[int],
        texts: Sequence[Sequence[Sequence[int]]],
        prompts: Sequence[Sequence[int]],
        states: Tensor,
    ) -> list[list[int]]:
        """Rows that are read at once."""
        longest = max((sum(map(len, texts[row])) + len(prompts[row]) for row in rows), default=0)
        heads = sum(_head_counts(self._backbone))
        count = max(1, VALUES_AT_ONCE // max(1, longest * states.size(1) * heads))
        return [rows[i : i + count] for i in range(0, len(rows), count)]

    def _look(
        self, states: Tensor, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Where the decoder looks while it reads texts, [rows, heads, tokens, length], and its scores of tokens."""
        end = self._tokenizer.end_id
        whole = [[*prompt, *text, end] for prompt, text in zip(prompts, texts, strict=True)]
        longest = max(map(len, whole))
        tokens = torch.tensor([row + [end] * (longest - len(row)) for row in whole], device=states.device)
        output = self._backbone.decode(states, tokens, output_attentions=True)
        assert output.cross_attentions is not None
        seen = output.cross_attentions
        heads = self._heads
        if heads is None:
            heads = [(block, head) for block in range(len(seen) // 2, len(seen)) for head in range(seen[block].size(1))]
        chosen = torch.stack([seen[block][:, head] for block, head in heads], 1)
        # Not less than float32: where all tokens look alike, it is their last digits that are compared.
        chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
        return chosen, self._head(output.last_hidden_state)[..., :end].float()

    def _columns(self, seen: Tensor) -> list[int]:
        """For each token the first step of 20 ms of where heads look, [heads, tokens, steps]."""
        seen = seen / seen.sum(-1, keepdim=True).clamp(min=1e-20)
        deviation, mean = torch.std_mean(seen, dim=1, keepdim=True, unbiased=False)
        seen = (seen - mean) / deviation.clamp(min=1e-20)
        return first_columns(-smoothed(seen, self._width).mean(0).cpu())

    def _words(self, tokens: list[int], columns: list[int], chances: list[float], language: str | None) -> list[Word]:
        texts, rows = self._tokenizer.split_to_words(tokens, language)
        words, first = [], 0
        for text, row in zip(texts, rows, strict=True):
            last = first + len(row)
            start, end = (columns[place] / STEPS_PER_SECOND for place in (first, last))
            words.append(Word(text, row, start, end, sum(chances[first:last]) / len(row)))
            first = last
        return with_marks(words)


def with_marks(words: Sequence[Word]) -> list[Word]:
    """Words with the punctuation that belongs to them, whose times do not count."""
    opened: list[Word] = []
    for word in reversed(words):
        if opened and word.text.startswith(" ") and is_all(word.text, OPENING):
            after = opened.pop()
            word = replace(after, text=word.text + after.text, tokens=[*word.tokens, *after.tokens])
        opened.append(word)
    closed: list[Word] = []
    for word in reversed(opened):
        if closed and not word.text.startswith(" ") and is_all(word.text, CLOSING):
            before = closed.pop()
            word = replace(before, text=before.text + word.text, tokens=[*before.tokens, *word.tokens])
        closed.append(word)
    return closed


def is_all(text: str, marks: frozenset[str]) -> bool:
    """Whether a text is nothing but such marks, and there are some."""
    return bool(text.strip()) and marks.issuperset(text.strip())


def hand_out(words: list[Word], segments: Sequence[Segment], counts: Sequence[int], seconds: float) -> None:
    """Gives each segment its words, and makes it begin and end with them.

    Args:
        words: Of a window, with times after its beginning.
        segments: Of the window.
        counts: How many tokens of text each has.
        seconds: When the window begins.
    """
    lengths = [word.end - word.start for word in words if word.end > word.start]
    longest = 2 * min(LONGEST_USUAL, median(lengths)) if lengths else LONGEST_USUAL
    window_end = max((segment.end for segment in segments), default=seconds)
    place, time, left = 0, seconds, 0
    for segment, count in zip(segments, counts, strict=True):
        own: list[Word] = []
        left += count  # less than nothing, where a word of the segment before ends in this one
        while place < len(words) and left > 0:
            own.append(words[place])
            left -= len(words[place].tokens)
            place += 1
        segment.words = own
        if not own:
            segment.start = time = max(time, segment.start)
            segment.end = time = max(time, segment.end)
            continue
        # Beside a pause, what is aligned with a word is partly the pause.
        first, last = own[0], own[-1]
        first.start = max(first.start, first.end - longest)
        last.end = min(last.end, last.start + longest)
        for word in own:
            word.start = min(max(time, seconds + word.start), window_end)
            word.end = time = min(max(word.start, seconds + word.end), window_end)
        segment.start, segment.end = first.start, last.end
