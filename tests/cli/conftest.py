"""Tiny saved models, and commands that must fail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from hezar_like import build_model
from hezar_like.cli import main
from hezar_like.preprocessors import WordPieceConfig, WordPieceTokenizer

sys.path.insert(0, str(Path(__file__).parent))

from commands import EVIL, Fails

SENTENCES = ["the quick brown fox", "a lazy dog sat", "سلام دنیای هزار"] * 4


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny saved models: a classifier with a label that plays with the terminal, a mask filler, an embedder."""
    tokenizer = WordPieceTokenizer(WordPieceConfig(vocab_size=120, min_frequency=1, show_progress=False))
    tokenizer.train_from_iterator(SENTENCES)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
    fields: dict[str, dict[str, Any]] = {"text_classification": {"id2label": {0: EVIL, 1: "good", 2: "so-so"}}}
    torch.manual_seed(0)
    found = {}
    for task in ("text_classification", "mask_filling", "text_embedding"):
        model = build_model(f"bert_{task}", **sizes, vocab_size=len(tokenizer), **fields.get(task, {}))
        model.preprocessor = tokenizer
        found[task] = str(model.save(tmp_path_factory.mktemp(task) / "model"))
    return found


@pytest.fixture
def classifier(folders: dict[str, str]) -> str:
    return folders["text_classification"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that must fail with exactly one line, and gives the line."""

    def run(*argv: str, code: int = 2) -> str:
        assert main(list(argv)) == code
        captured = capsys.readouterr()
        assert captured.err.startswith("hezar_like: error: ")
        assert captured.err.count("\n") == 1
        return captured.err

    return run
