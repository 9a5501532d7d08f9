"""Reads a sentencepiece `.model` file, and makes a tokenizer that gives sentencepiece's ids, without sentencepiece.

All of sentencepiece's normalization (charsmap, spaces, dummy prefix) goes into the Rust normalizer, which sees a text
as a whole: `Metaspace` would repeat the prefix after each user-defined symbol, or forget it after stripped spaces.

Ids can differ from sentencepiece's in these cases only:
- A text spells a control symbol ("</s>"), or for Unigram "<unk>" or a byte piece: it is that piece, as in transformers.
- Two segmentations of a Unigram model score the same up to the rounding of sums, which sentencepiece does in single
  precision; for BPE, one piece can be merged in two ways that overlap ("aaaaa" with the pieces aa and aaa).
- The charsmap rewrites a sequence of characters (decomposed Hangul, kana with a separate voicing mark), or a character
  with combining marks after it: the Rust `Precompiled` looks up less than sentencepiece, here as in transformers.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from ..errors import TokenizerError
from .rust_backend import guarded

__all__ = [
    "Kind",
    "Piece",
    "SentencePieceModel",
    "backend_from_sentencepiece",
    "build_backend",
    "read_model_file",
    "read_sentencepiece",
]

MAX_BYTES, MAX_PIECES = 64_000_000, 2_000_000
MAX_SYMBOLS = 20_000  # they become one regular expression
MAX_PIECE_LENGTH = 256
SPACE, UNIGRAM, BPE = "▁", 1, 2
PLACEHOLDERS = 0xF0000  # private characters, for user-defined symbols while a text is normalized
TRAINER = {3: "model_type", 24: "whitespace_as_suffix", 35: "byte_fallback", 41: "bos_id", 42: "eos_id", 43: "pad_id"}
NORMALIZER = {2: "charsmap", 3: "add_dummy_prefix", 4: "remove_extra_whitespaces", 5: "escape_whitespaces"}


class Kind(IntEnum):
    """What a piece is."""

    NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


class Piece(NamedTuple):
    """An entry of the vocabulary; its id is its place."""

    text: str
    score: float = 0.0
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """What a `.model` file says; the defaults are those of the format, and -1 means that there is no such piece."""

    pieces: list[Piece]
    unk_id: int
    model_type: int = UNIGRAM
    whitespace_as_suffix: bool = False
    byte_fallback: bool = False
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True

    def texts(self, *kinds: Kind) -> list[str]:
        """The pieces of these kinds, in the order of their ids."""
        return [piece.text for piece in self.pieces if piece.kind in kinds]


def backend_from_sentencepiece(path: str | Path) -> RustTokenizer:
    """Makes a tokenizer with the ids of a `.model` file, without a post-processor; a TokenizerError names the path."""
    return build_backend(read_sentencepiece(path), path)


def read_sentencepiece(path: str | Path) -> SentencePieceModel:
    """Reads a `.model` file; a TokenizerError names the path."""
    data = read_model_file(path)
    with guarded(f"{str(path)!r} is not a sentencepiece model", "Download it again."):
        return _model(data)


def read_model_file(path: str | Path) -> bytes:
    """The content of a `.model` file as it is; a TokenizerError names the path."""
    with guarded(f"{str(path)!r} is not a sentencepiece model", "Download it again."), open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES / 1e6:g} MB")
        if data.startswith(b"version https://git-lfs"):
            raise ValueError("it is a Git LFS pointer; run `git lfs pull`")
        return data


def _model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    values: dict[str, Any] = {}
    for number, value in _fields(data):
        if number == 1 and len(pieces) == MAX_PIECES:
            raise ValueError(f"more than {MAX_PIECES} pieces")
        if number == 1:
            pieces.append(_piece(_bytes(value)))
        elif number in (2, 3):
            names = TRAINER if number == 2 else NORMALIZER
            values |= {names[field]: content for field, content in _fields(_bytes(value)) if field in names}
    for name, value in values.items():
        if not isinstance(value, bytes if name == "charsmap" else int):
            raise ValueError(f"{name} has another type")
        if name.endswith("_id"):
            values[name] = value if value in range(len(pieces)) else -1
        elif name not in ("charsmap", "model_type"):
            values[name] = bool(value)
    if len({piece.text for piece in pieces} - {""}) < len(pieces):
        raise ValueError("a piece is empty or listed twice")
    # The kind of a piece decides, as for sentencepiece, not what the trainer was told.
    unknown = [index for index, piece in enumerate(pieces) if piece.kind is Kind.UNKNOWN]
    if len(unknown) != 1:
        raise ValueError(f"{len(unknown)} of {len(pieces)} pieces stand for unknown text instead of one")
    return SentencePieceModel(pieces, unknown[0], **values)


def _piece(data: bytes) -> Piece:
    values = dict(_fields(data))
    text, score = _bytes(values.get(1, b"")).decode("utf-8"), values.get(2, 0.0)
    if len(text) > MAX_PIECE_LENGTH or not isinstance(score, float) or not math.isfinite(score):
        raise ValueError(f"the piece {text[:20]!r} is too long, or its score is not a number")
    return Piece(text, score, Kind(values.get(3, Kind.NORMAL)))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number and value."""
    position = 0
    while position < len(data):
        value: Any
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(data, position)
        elif wire in (1, 2, 5):
            length, position = _varint(data, position) if wire == 2 else ({1: 8, 5: 4}[wire], position)
            value, position = data[position : position + length], position + length
            if position > len(data):
                raise ValueError("it ends in the middle of a field")
            if wire == 5:
                (value,) = struct.unpack("<f", value)
        else:
            raise ValueError("its bytes are none of a protobuf message")
        yield number, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        value, position = value | (byte & 127) << shift, position + 1
        if byte < 128:
            return value, position
    raise ValueError("a number without an end")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field has another type")
    return value


# -- building -------------------------------------------------------------------------------------------------------


def build_backend(model: SentencePieceModel, path: str | Path) -> RustTokenizer:
    """Makes a tokenizer of a model that was read, for instance after its pieces got other ids; errors name the path."""
    reasons = {
        "only Unigram and BPE models can be rebuilt": model.model_type not in (UNIGRAM, BPE),
        "it puts spaces at the ends of words": model.whitespace_as_suffix,
        "it has unused pieces": bool(model.texts(Kind.UNUSED)),
        f"it has more than {MAX_SYMBOLS} symbols": len(model.texts(Kind.USER_DEFINED)) > MAX_SYMBOLS,
    }
    if reason := ", and ".join(reason for reason, applies in reasons.items() if applies):
        raise TokenizerError(f"{str(path)!r} cannot be read: {reason}. Convert it to a tokenizer.json first.")
    with guarded(f"{str(path)!r} makes no tokenizer", "Download it again."):
        symbols = sorted(model.texts(Kind.USER_DEFINED), key=len, reverse=True)  # the longest at each place counts
        scores = [(text, score) for text, score, _ in model.pieces]
        unigram = models.Unigram(scores, model.unk_id, model.byte_fallback) if model.model_type == UNIGRAM else None
        backend = RustTokenizer(unigram or _bpe(model, symbols))
        backend.normalizer = _normalizer(model, symbols)
        if splits := _pre_tokenizers(model, symbols):
            backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
        backend.decoder = _decoder(model)
        backend.add_special_tokens([AddedToken(text, normalized=False) for text in model.texts(Kind.CONTROL)])
        backend.encode("a")  # a broken charsmap shows in use
        return backend


def _bpe(model: SentencePieceModel, symbols: list[str]) -> models.BPE:
    """Makes merges of what sentencepiece does: join the neighbours that make the piece with the best score."""
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    normal = {text: score for text, score, kind in model.pieces if kind is Kind.NORMAL}
    ranked = sorted(
        (-score, vocabulary[text[:i]], vocabulary[text[i:]], text, i)
        for text, score in normal.items()
        for i in range(1, len(text))
        if text[:i] in normal and text[i:] in normal
    )
    return models.BPE(
        vocabulary,
        [(text[:i], text[i:]) for *_, text, i in ranked],
        unk_token=model.pieces[model.unk_id].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
        ignore_merges=bool(symbols),  # a symbol is cut out whole before, and no merges lead to it
    )


def _normalizer(model: SentencePieceModel, symbols: list[str]) -> Any:
    steps: list[Any] = [normalizers.Prepend(" ")] if model.add_dummy_prefix else []
    if model.remove_extra_whitespaces:  # a "▁" of the text itself counts as a space at its end, and nowhere else
        extra = normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), "")
        steps = [extra, normalizers.Replace(Regex(" {2,}"), " "), *steps]
    aside: dict[str, str] = {}
    if model.charsmap:
        charsmap = normalizers.Precompiled(model.charsmap)
        # Rust takes "\r\n" for one character, and would drop the second half.
        rules = [normalizers.Replace("\r", charsmap.normalize_str("\r")), charsmap]
        steps = rules + steps if model.remove_extra_whitespaces else steps + rules
        # User-defined symbols are not normalized: those that would change step aside.
        changed = [symbol for symbol in symbols if charsmap.normalize_str(symbol) != symbol]
        aside = {symbol: chr(PLACEHOLDERS + index) for index, symbol in enumerate(changed)}
    steps += [normalizers.Replace(" ", SPACE)] if model.escape_whitespaces else []
    away, back = aside.items(), ((placeholder, symbol) for symbol, placeholder in aside.items())
    return normalizers.Sequence([*starmap(normalizers.Replace, away), *steps, *starmap(normalizers.Replace, back)])


def _pre_tokenizers(model: SentencePieceModel, symbols: list[str]) -> list[Any]:
    splits: list[Any] = []
    if symbols:
        escaped = (re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", symbol) for symbol in symbols)
        splits.append(pre_tokenizers.Split(Regex("|".join(escaped)), "isolated"))
    texts = {piece.text for piece in model.pieces}
    # Split into words where no piece can cross a space: then words can be told apart, and are cached.
    if SPACE in texts and not any(SPACE in text[1:] for text in texts):
        splits.append(pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=True))
    return splits


def _decoder(model: SentencePieceModel) -> Any:
    prefix = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
    return decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *prefix])
