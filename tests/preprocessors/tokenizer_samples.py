"""Where the recorded tokenizers are, and sentences to train tiny ones on."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures" / "hezar"
SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "a cat sat on the mat, and the dog sat beside it",
    "هزار، کتابخانه‌ای کامل برای به کارگیری آسان هوش مصنوعی",
    "pack my box with five dozen liquor jugs!",
    "how vexingly quick daft zebras jump",
] * 4
