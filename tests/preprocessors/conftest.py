"""Small tokenizers that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from published_vocabularies import finder, unpack
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


Published = Callable[[str], Callable[[str], Path | None]]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Gives what finds the files of a published checkpoint."""
    folder = tmp_path_factory.mktemp("published")
    unpack(folder)
    return lambda checkpoint: finder(folder, checkpoint)
