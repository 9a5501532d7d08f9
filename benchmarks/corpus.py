"""Real texts of mixed lengths, about 5 to 250 tokens: sentences, and neighbouring ones joined.

`ud_english_ewt.txt` holds the sentences of the UD English Web Treebank, in their order, under CC BY-SA 4.0:
https://universaldependencies.org/treebanks/en_ewt
"""

from __future__ import annotations

import random
from pathlib import Path

SENTENCES = Path(__file__).parent / "ud_english_ewt.txt"
FEWEST, MOST, MIDDLE, SPREAD = 4, 180, 3.4, 0.75
"""Words of a text: the fewest and the most, and the logarithm of the middle with its standard deviation."""


def texts(count: int, seed: int = 0) -> list[str]:
    """So many texts, the same for the same seed."""
    words = SENTENCES.read_text(encoding="utf-8").split()
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        length = min(MOST, max(FEWEST, round(chance.lognormvariate(MIDDLE, SPREAD))))
        start = chance.randrange(len(words) - length)
        found.append(" ".join(words[start : start + length]))
    return found
