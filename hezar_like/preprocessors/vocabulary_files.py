"""vocab.txt, vocab.json and merges.txt: the files of a vocabulary, read and written back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from ..errors import TokenizerError
from ..text_files import read_bounded, read_json
from .rust_backend import guarded

__all__ = [
    "byte_level_bpe_backend", "longest_match_backend", "merges_bytes", "vocabulary_json_bytes", "vocabulary_text_bytes",
    "wordpiece_backend",
]  # fmt: skip

MAX_VOCABULARY_BYTES = 100_000_000


# -- reading --------------------------------------------------------------------------------------------------------


def wordpiece_backend(path: Path, settings: Mapping[str, Any], unk_token: str = "[UNK]") -> RustTokenizer:
    """Makes a tokenizer with BERT's rules.

    Args:
        path: The vocab.txt.
        settings: Those of tokenizer_config.json.
        unk_token: What stands for a word that cannot be cut.

    Raises:
        TokenizerError: With the path.
    """
    with guarded(f"{str(path)!r} is not a vocabulary of one token per line", "Download it again."):
        vocabulary = {line: index for index, line in enumerate(_read_lines(path))}
        backend = RustTokenizer(models.WordPiece(vocabulary, unk_token=unk_token))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def longest_match_backend(path: Path) -> RustTokenizer:
    """Makes a tokenizer of a vocab.txt without marks for the place in a word; a TokenizerError names the path."""
    with guarded(f"{str(path)!r} is not a vocabulary of one token per line", "Download it again."):
        vocabulary = {line.strip(): index for index, line in enumerate(_read_lines(path))}
        return RustTokenizer(models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix=""))


def _read_lines(path: Path) -> list[str]:
    with open(path, encoding="utf-8") as file:
        text = file.read(MAX_VOCABULARY_BYTES + 1)
    if len(text) > MAX_VOCABULARY_BYTES:
        raise ValueError(f"larger than {MAX_VOCABULARY_BYTES / 1e6:g} MB")
    if not text:
        raise ValueError("it is empty")
    if text.startswith("version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer; run `git lfs pull`")
    # Only the last line may be empty; an empty line elsewhere is a token, as for transformers.
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def byte_level_bpe_backend(path: Path, merges_path: Path, settings: Mapping[str, Any]) -> RustTokenizer:
    """Makes a tokenizer with GPT-2's rules.

    Args:
        path: The vocab.json.
        merges_path: The merges.txt.
        settings: Those of tokenizer_config.json.

    Raises:
        TokenizerError, ConfigError: With the path.
    """
    vocabulary = read_json(path, max_bytes=MAX_VOCABULARY_BYTES)
    with guarded(f"{str(merges_path)!r} does not fit {path.name}", "Download both again."):
        lines = read_bounded(merges_path, MAX_VOCABULARY_BYTES).decode().split("\n")
        pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
        merges = [(left, right) for left, right in pairs]
        backend = RustTokenizer(models.BPE(vocabulary, merges, fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    return backend


# -- writing --------------------------------------------------------------------------------------------------------


def vocabulary_text_bytes(vocabulary: Mapping[str, int]) -> bytes:
    """The vocab.txt of a vocabulary.

    Raises:
        TokenizerError: When the ids have gaps, or a token would break its line.
    """
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    gap = next((token for index, token in enumerate(tokens) if vocabulary[token] != index), None)
    broken = next((token for token in tokens if "\n" in token or "\r" in token), None)
    if gap is not None or broken is not None:
        reason = f"before the id of {gap!r:.100} there is none" if broken is None else f"{broken!r:.100} is two lines"
        raise TokenizerError(f"a vocab.txt cannot hold this vocabulary: {reason}. Use save() for our own layout.")
    return "".join(f"{token}\n" for token in tokens).encode()


def vocabulary_json_bytes(vocabulary: Mapping[str, int]) -> bytes:
    """The vocab.json of a vocabulary, in the order of the ids."""
    return json.dumps(dict(sorted(vocabulary.items(), key=lambda item: item[1]))).encode()


def merges_bytes(backend: RustTokenizer) -> bytes:
    """The merges.txt of a BPE tokenizer."""
    pairs = json.loads(backend.to_str())["model"]["merges"]
    return "".join(["#version: 0.2\n", *(f"{left} {right}\n" for left, right in pairs)]).encode()
