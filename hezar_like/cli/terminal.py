"""Text for people: one line per message, nothing that moves the cursor, columns that line up."""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["LoggedWarnings", "file_size", "fold", "printable", "say", "table"]

# These reorder the line they stand in, so that a label could pass for another. U+200C and its like are spelling.
REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text with control characters and line breaks shown as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if _harmless(letter) else repr(letter)[1:-1] for letter in text)


def fold(message: str) -> str:
    """A message on one line."""
    return printable(" ".join(part.strip() for part in message.splitlines() if part.strip()))


def say(line: str = "") -> None:
    """Prints one line."""
    print(printable(line))


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines with aligned columns; the last column is as long as it is."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return [indent + line.rstrip() for line in padded]


def file_size(count: int) -> str:
    """1234567 as "1.2 MB"."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes"


class LoggedWarnings(logging.Handler):
    """Shows the library's own warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "warning" if record.levelno < logging.ERROR else "error"
        print(f"hezar_like: {level}: {fold(record.getMessage())}", file=sys.stderr)


def _harmless(letter: str) -> bool:
    return letter not in REORDERING and unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp")
