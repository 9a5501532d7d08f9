"""From the documents of a corpus to rows of tokens: what one process does for one piece."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from array import array
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import chain
from typing import Any

from ..errors import DataError, HezarLikeError
from .corpus import CorpusPiece, read_piece
from .store_writer import IndexedDatasetWriter
from .word_rows import WordRows

__all__ = ["Counts", "Encoding", "encode_piece"]

TEXTS_AT_ONCE = 2000


@dataclass(frozen=True)
class Encoding:
    """How documents become sequences of a store.

    Attributes:
        dtype: The type of tokens.
        end_id: The token after each document; None for none.
        length: The most tokens of a sequence: a document is cut into pieces of that length; None: never cut.
        min_length: What has fewer tokens is left out, and counted.
        newline: What stands for a newline in a line, as in ModelCenter's corpora; "" for nothing.
        text_key: Where the text is in objects of `.jsonl` files.
    """

    dtype: str
    end_id: int | None = None
    length: int | None = None
    min_length: int = 1
    newline: str = "<n>"
    text_key: str = "text"


@dataclass
class Counts:
    """What became of lines; `lines` = `documents` + `empty` + `short`."""

    lines: int = 0
    documents: int = 0
    empty: int = 0
    short: int = 0
    sequences: int = 0
    tokens: int = 0
    dropped_tokens: int = 0

    def add(self, other: Counts) -> None:
        """Adds what became of others."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def encode_piece(encode: WordRows, piece: CorpusPiece, encoding: Encoding, prefix: str) -> Counts:
    """Writes a store of the documents of a piece.

    Args:
        encode: Gives the ids of texts.
        piece: Which lines.
        encoding: What is made of them.
        prefix: What the names of the store's files begin with.

    Returns:
        What became of its lines.

    Raises:
        DataError: With file and line, for a line that cannot be read.
    """
    lines = read_piece(piece, encoding.text_key)
    texts = [line for line in lines if line and not line.isspace()]
    counts = Counts(lines=len(lines), empty=len(lines) - len(texts))
    if encoding.newline:
        texts = [text.replace(encoding.newline, "\n") for text in texts]
    end = [] if encoding.end_id is None else [encoding.end_id]
    with IndexedDatasetWriter(prefix, encoding.dtype) as writer:
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            rows = encode(texts[first : first + TEXTS_AT_ONCE])
            if end:
                for row in rows:
                    row += end
            _write(writer, rows, encoding, counts)
    return counts


def _write(writer: IndexedDatasetWriter, rows: list[list[int]], encoding: Encoding, counts: Counts) -> None:
    """Adds documents to a store."""
    sizes: list[int] = []
    borders: list[int] = []
    kept: list[list[int]] = []
    length, least = encoding.length, max(encoding.min_length, 1)
    for row in rows:
        parts = [row] if length is None else [row[i : i + length] for i in range(0, len(row), length)]
        whole = [part for part in parts if len(part) >= least]
        counts.dropped_tokens += sum(map(len, parts)) - sum(map(len, whole))
        if whole:
            kept += whole
            sizes += map(len, whole)
            borders.append(len(writer) + len(sizes))
        else:
            counts.short += 1
    flat = array("q", chain.from_iterable(kept))
    if flat:
        writer.add_items(flat, sizes)
    writer.end_documents(borders)
    counts.documents += len(borders)
    counts.sequences += len(sizes)
    counts.tokens += len(flat)


def main() -> None:
    """The process of a worker: it reads pieces from its input, as JSON lines, and answers with what became of each.

    It ends with its input, also when whoever began it was killed.
    """
    gc.disable()  # nothing here makes circles, and what is looked through for them are all known words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives the orders
    folder, module, kind, settings = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    # Its class by its place, because the registry would import all kinds, and torch with them, to find it.
    encode = WordRows(getattr(import_module(module), kind).load(folder))
    encoding = Encoding(**json.loads(settings))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            counts = encode_piece(encode, CorpusPiece(**order["piece"]), encoding, order["prefix"])
            answer: dict[str, Any] = {"counts": asdict(counts)}
        except HezarLikeError as error:
            where = "" if isinstance(error, DataError) else f"{order['piece']['path']}: "
            answer = {"error": f"{where}{error}"}
        except OSError as error:
            answer = {"error": str(DataError(f"{error.filename}: {error.strerror}. Check the disk and the path."))}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
