"""Sentences with a label for each word, as CoNLL and Universal Dependencies write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError

__all__ = ["read_conll", "read_conllu"]

CONLLU = ("id", "tokens", "lemmas", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
DOCUMENT = "-DOCSTART-"


def read_conll(path: Path, text: str, columns: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]:
    """Reads a word per line, its columns parted by tabs or, without any, by spaces; an empty line ends a sentence.

    Args:
        path: The file, for messages.
        text: What it holds.
        columns: Names of its columns.

    Returns:
        For each sentence a list for each column, and the line it begins in.

    Raises:
        DataError: With the line, when it has another number of columns.
    """
    return _columns(path, _sentences(text), columns, len(columns))


def read_conllu(path: Path, text: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Reads CoNLL-U; comments, words of several tokens (3-4) and empty nodes (3.1) are left out; see `read_conll`."""
    kept = (
        (
            start,
            [
                (number, line)
                for number, line in lines
                if not line.startswith("#") and not set("-.") & set(line.partition("\t")[0])
            ],
        )
        for start, lines in _sentences(text)
    )
    return _columns(path, kept, CONLLU, len(CONLLU))


def _sentences(text: str) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """The line each sentence begins in, and its lines with their numbers."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        line = line.removesuffix("\r")
        if line.strip():
            lines.append((number, line))
        elif lines:
            yield lines[0][0], lines
            lines = []


def _columns(
    path: Path, sentences: Iterator[tuple[int, list[tuple[int, str]]]], names: Sequence[str], count: int
) -> tuple[list[dict[str, Any]], list[int]]:
    rows, starts = [], []
    for start, lines in sentences:
        row: dict[str, list[str]] = {name: [] for name in names}
        for number, line in lines:
            cells = line.split("\t") if "\t" in line else line.split()
            if cells[0] == DOCUMENT:
                continue
            if len(cells) != count or not cells[0].strip():
                raise DataError(
                    f"{path}, line {number}: has {len(cells)} columns, but must have {count} ({', '.join(names)})."
                )
            for name, cell in zip(names, cells, strict=True):
                row[name].append(cell)
        if row[names[0]]:
            rows.append(row)
            starts.append(start)
    return rows, starts
