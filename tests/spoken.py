"""Speech that a synthesizer makes of texts, and how many words of it somebody got wrong."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from typing import Any

import espeakng_loader
import torch
from torch import Tensor

SYNCHRONOUS, UTF8, RATE = 2, 1, 1
PASSAGES = {
    # Lincoln, 1863; Austen, 1813; Melville, 1851; Thoreau, 1854: all in the public domain.
    "lincoln": """Our fathers brought forth on this continent a new nation, conceived in liberty, and dedicated to the
        proposition that all men are created equal. Now we are engaged in a great civil war, testing whether that nation,
        or any nation so conceived and so dedicated, can long endure. We are met on a great battlefield of that war. We
        have come to dedicate a portion of that field as a final resting place for those who here gave their lives, that
        that nation might live. It is altogether fitting and proper that we should do this. The world will little note,
        nor long remember, what we say here, but it can never forget what they did here. It is for us the living, rather,
        to be dedicated here to the unfinished work which they who fought here have thus far so nobly advanced.""",
    "austen": """It is a truth universally acknowledged, that a single man in possession of a good fortune must be in want
        of a wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood,
        this truth is so well fixed in the minds of the surrounding families, that he is considered as the rightful
        property of some one or other of their daughters.""",
    "melville": """Some years ago, never mind how long precisely, having little or no money in my purse, and nothing
        particular to interest me on shore, I thought I would sail about a little and see the watery part of the world. It
        is a way I have of driving off the spleen, and regulating the circulation. Whenever I find myself growing grim
        about the mouth, whenever it is a damp, drizzly November in my soul, then I account it high time to get to sea as
        soon as I can. There is nothing surprising in this. If they but knew it, almost all men in their degree, some time
        or other, cherish very nearly the same feelings towards the ocean with me.""",
    "thoreau": """I went to the woods because I wished to live deliberately, to front only the essential facts of life, and
        see if I could not learn what it had to teach, and not, when I came to die, discover that I had not lived. I did
        not wish to live what was not life, living is so dear, nor did I wish to practise resignation, unless it was quite
        necessary. I wanted to live deep and suck out all the marrow of life, to live so sturdily as to put to rout all
        that was not life, to cut a broad swath and shave close, to drive life into a corner, and reduce it to its lowest
        terms. Our life is frittered away by detail. Simplicity, simplicity, simplicity! Let your affairs be as two or
        three, and not a hundred or a thousand. Time is but the stream I go fishing in. I drink at it, but while I drink I
        see the sandy bottom and detect how shallow it is. Its thin current slides away, but eternity remains.""",
}  # fmt: skip


@cache
def _synthesizer() -> tuple[Any, int]:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    assert rate > 0 and library.espeak_SetVoiceByName(b"en-us") == 0
    return library, rate


def speak(text: str, words_per_minute: int = 160) -> tuple[Tensor, int]:
    """Says a text: samples [n] int16, and their rate."""
    library, rate = _synthesizer()
    found: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def keep(samples: Any, count: int, events: Any) -> int:
        found.append(ctypes.string_at(samples, 2 * count) if count else b"")
        return 0

    library.espeak_SetSynthCallback(keep)
    library.espeak_SetParameter(RATE, words_per_minute, 0)
    data = text.encode()
    assert library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8, None, None) == 0
    library.espeak_Synchronize()
    return torch.frombuffer(bytearray(b"".join(found)), dtype=torch.int16), rate


def words(text: str) -> list[str]:
    """The words of a text, without case and marks."""
    return re.sub(r"[^\w\s']", " ", text.lower()).split()


def word_errors(said: str, written: str) -> float:
    """The word error rate: words to replace, add or leave out, as a part of those that were said."""
    row = list(range(len(words(written)) + 1))
    for i, word in enumerate(words(said), 1):
        above, row = row, [i]
        for j, other in enumerate(words(written), 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1] / max(1, len(words(said)))
