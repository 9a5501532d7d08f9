"""Corpora of one document per line, cut into pieces that can be read by themselves."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

__all__ = ["CorpusPiece", "corpus_files", "cut_into_pieces", "read_piece"]

JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class CorpusPiece:
    """The lines of a file that begin in a range of its bytes.

    Attributes:
        path: The file.
        start: The first byte.
        end: One past the last.
    """

    path: str
    start: int
    end: int


def corpus_files(inputs: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files of a corpus, in order; a name with * or ? that is no file stands for all that it fits, sorted.

    Raises:
        DataError: For a name without a file, a folder, a file given twice, or when all are empty.
    """
    found: list[Path] = []
    for name in [os.fspath(given) for given in inputs]:
        matches = [name] if os.path.exists(name) else sorted(glob.glob(name))
        if not matches:
            raise DataError(f"{name}: there is no such file. Check the path.")
        found += map(Path, matches)
    for path in found:
        if not path.is_file():
            raise DataError(f"{path}: is a folder. Give the files in it, as in '{path}/*.txt'.")
        if sum(path.samefile(other) for other in found) > 1:
            raise DataError(f"{path}: is given twice. Remove one.")
    if not any(path.stat().st_size for path in found):
        raise DataError(f"{', '.join(map(str, found)) or 'the corpus'}: is empty. Give files with a document per line.")
    return found


def cut_into_pieces(path: Path, piece_bytes: int) -> Iterator[CorpusPiece]:
    """All of a file, in pieces of about so many bytes."""
    size = path.stat().st_size
    for start in range(0, size, piece_bytes):
        yield CorpusPiece(str(path), start, min(start + piece_bytes, size))


def read_piece(piece: CorpusPiece, text_key: str) -> list[str]:
    """The documents of a piece, without the ends of their lines; each line is in just one piece.

    Args:
        piece: Which lines.
        text_key: Where the text is in the objects of `.jsonl` files.

    Raises:
        DataError: With file and line, for what is not UTF-8, or no JSON object with a text.
    """
    start, data = _bytes_of(piece)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        raise DataError(f"{_where(piece, start, line)}: not UTF-8 text. Save the file as UTF-8.") from None
    if start == 0:
        text = text.removeprefix("\ufeff")
    lines = text.split("\n")  # and at no other break that Unicode knows
    if lines and not lines[-1]:
        del lines[-1]  # what follows the last newline is no line
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    if not piece.path.endswith(JSON_LINES):
        return lines
    return [_text_of(line, text_key, piece, start, number) if line.strip() else "" for number, line in enumerate(lines)]


def _bytes_of(piece: CorpusPiece) -> tuple[int, bytes]:
    """Where the first line begins, and the bytes of all lines that begin in the piece."""
    with open(piece.path, "rb") as file:
        if piece.start:
            file.seek(piece.start - 1)
            file.readline()  # a line that begins before is the piece before's
        start = file.tell()
        if start >= piece.end:
            return start, b""
        data = file.read(piece.end - start)
        return start, data if data.endswith(b"\n") else data + file.readline()


def _text_of(line: str, text_key: str, piece: CorpusPiece, start: int, number: int) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply, or a number too long")
        raise DataError(f"{_where(piece, start, number)}: not JSON ({reason}). Mend the line.") from None
    text = value.get(text_key) if isinstance(value, dict) else None
    if not isinstance(text, str):
        known = f"it has {', '.join(list(map(repr, value))[:10])}" if isinstance(value, dict) else "it is no object"
        raise DataError(f"{_where(piece, start, number)}: has no text under the key {text_key!r}; {known}.")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"{_where(piece, start, number)}: its text holds half a character. Mend the line.")
    return text


def _where(piece: CorpusPiece, start: int, number: int) -> str:
    """File and line, counted from 1, of a line of a piece."""
    before, left = 0, start
    with open(piece.path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            before += block.count(b"\n")
            left -= len(block)
    return f"{piece.path}, line {before + number + 1}"
