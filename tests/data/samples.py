"""Small tokenizers and texts that the tests of data share."""

from __future__ import annotations

from functools import cache

from hezar_like import Tokenizer, build_preprocessor
from hezar_like.preprocessors import GLMTokenizer, GLMTokenizerConfig

TEXTS = [
    "a cat sat on the mat",
    "the dog, and the fox",
    "pack my box with five dozen liquor jugs",
    "how vexingly quick daft zebras jump!",
    "هزار، کتابخانه‌ای کامل",
    "no yes maybe 1 2 Question: Answer: Sentence",
]
COMMANDS = ("[CLS]", "[MASK]", "[sMASK]", "[gMASK]", "<|startofpiece|>", "<|endofpiece|>", "<|endoftext|>", "[SEP]", "[UNK]")


@cache
def tokenizer(kind: str = "wordpiece_tokenizer") -> Tokenizer:
    """A tokenizer trained on a few sentences; do not change it."""
    made = build_preprocessor(kind, vocab_size=400, min_frequency=1, show_progress=False)
    made.train_from_iterator(TEXTS * 4)
    return made


@cache
def sentinel_tokenizer(form: str = "<extra_id_{}>", count: int = 20) -> Tokenizer:
    """One with sentinels."""
    made = build_preprocessor("bpe_tokenizer", vocab_size=400, min_frequency=1, show_progress=False)
    made.train_from_iterator(TEXTS * 4)
    made.add_special_tokens([form.format(i) for i in range(count)])
    return made


@cache
def glm_tokenizer() -> GLMTokenizer:
    """One with GLM's command tokens."""
    made = build_preprocessor("wordpiece_tokenizer", vocab_size=400, min_frequency=1, show_progress=False)
    made.train_from_iterator(TEXTS * 4)
    backend = made.backend
    backend.add_special_tokens(list(COMMANDS))
    ids = {token: backend.token_to_id(token) for token in COMMANDS}
    config = GLMTokenizerConfig(command_ids=ids, unk_token="[UNK]", vocab_size=len(made))
    return GLMTokenizer(config, backend=backend)
