"""Small tokenizers that the tests share."""

from __future__ import annotations

import pytest
from tokenizer_samples import FIXTURES

from hezar_like.preprocessors import Preprocessor, Tokenizer


@pytest.fixture(scope="session", params=["bpe", "wordpiece", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Preprocessor.load(FIXTURES / f"tokenizer_{request.param}")


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    return Preprocessor.load(FIXTURES / "tokenizer_wordpiece")


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return Preprocessor.load(FIXTURES / "tokenizer_bpe")
