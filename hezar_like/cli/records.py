"""The inputs of a command: texts from its arguments, a file or a pipe, read one by one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..errors import InputError
from ..terminals import is_terminal
from .parser import UsageError, suggestion

__all__ = ["Record", "kind_of_file", "open_file", "open_records", "raw_lines", "read_records", "same_file"]

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
# A line without an end must not fill the memory.
MAX_LINE_BYTES = 64_000_000
RESULT = "result"
CONVERSATION = ("messages", "tools", "documents", "template", "variables")


@dataclass(frozen=True)
class Record:
    """One input.

    Attributes:
        fields: What the output repeats; the text, and whatever else stood beside it.
        where: Its place, for messages.
    """

    fields: Mapping[str, Any]
    where: str

    @property
    def model_input(self) -> Any:
        """What the model is given: the text, or it and its pair, or its choices; or a conversation."""
        if "text" not in self.fields:
            return {key: self.fields[key] for key in CONVERSATION if self.fields.get(key) is not None}
        others = {key: self.fields[key] for key in ("text_pair", "choices") if self.fields.get(key) is not None}
        return {"text": self.fields["text"], **others} if others else self.fields["text"]


@contextmanager
def open_records(texts: Sequence[str], path: str | None, kind: str | None) -> Iterator[Iterator[Record]]:
    """Opens the inputs of a command.

    Args:
        texts: Those among its arguments.
        path: A file, "-" for standard input, or None: standard input if there are no texts.
        kind: "jsonl" or "txt"; None: what the file's name says, and txt for standard input.

    Yields:
        The inputs, read as they are asked for.

    Raises:
        UsageError: When there is no input, or it cannot be told where it is.
        InputError: For a file that cannot be read, and, while they are read, for a bad line.
    """
    if texts:
        if path is not None:
            raise UsageError("give texts or --input, not both")
        yield (_checked({"text": text}, f"text {number}") for number, text in enumerate(texts, 1))
        return
    if path is None or path == "-":
        if sys.stdin is None or (path is None and is_terminal(sys.stdin)):
            raise UsageError("give texts, a file with --input, or pipe texts in")
        yield read_records(sys.stdin.buffer, "standard input", kind or "txt")
        return
    kind = kind_of_file(path, kind)
    with open_file(path) as file:
        yield read_records(file, path, kind)


def same_file(path: str, other: str) -> bool:
    """Whether two paths lead to one file that exists."""
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def kind_of_file(path: str, kind: str | None) -> str:
    """What a file of inputs holds, "jsonl" or "txt".

    Args:
        path: The file.
        kind: What it holds if the user said so.

    Raises:
        UsageError: When neither the user nor the file's name says it.
    """
    if kind is not None:
        return kind
    suffix = Path(path).suffix.lower()
    if suffix not in KINDS:
        raise UsageError(
            f"--input {path!r} has the extension {suffix!r}, which does not tell what it holds."
            f"{suggestion(suffix, KINDS)} Give --input-format jsonl or txt"
        )
    return KINDS[suffix]


def open_file(path: str) -> BinaryIO:
    """Opens a file of inputs.

    Raises:
        InputError: When it cannot be read.
    """
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"--input {path!r} cannot be read: {error.strerror}. Check the path.") from None


def read_records(file: BinaryIO, name: str, kind: str, first_line: int = 1) -> Iterator[Record]:
    """The records of a file; lines without anything count as empty texts, and in jsonl as nothing.

    Args:
        file: The file, or a part of it that begins with a line.
        name: The file's name, for messages.
        kind: "jsonl" or "txt".
        first_line: The number of the first line here.

    Raises:
        InputError: For a bad line, once it is read.
    """
    for line, where in _lines(file, name, first_line):
        if kind == "txt":
            yield _checked({"text": line}, where)
        elif line.strip():
            yield _parse(line, where)


def raw_lines(file: BinaryIO, name: str, first_line: int = 1) -> Iterator[tuple[bytes, str]]:
    """Each line with its end, and where it is; of all breaks that Unicode knows, only the newline ends one.

    The arguments are those of `read_records`.

    Raises:
        InputError: For a line that is too long.
    """
    number = first_line - 1
    while data := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name}, line {number}"
        if len(data) > MAX_LINE_BYTES:
            raise InputError(f"{where}: longer than {MAX_LINE_BYTES // 10**6} MB. Check that this is a text file.")
        yield data, where


def _lines(file: BinaryIO, name: str, first_line: int) -> Iterator[tuple[str, str]]:
    """Each line as text without its end, and where it is."""
    encoding = "utf-8-sig" if first_line == 1 else "utf-8"
    for data, where in raw_lines(file, name, first_line):
        try:
            line = data.decode(encoding)
        except UnicodeDecodeError:
            raise InputError(f"{where}: not UTF-8 text. Save the file as UTF-8.") from None
        encoding = "utf-8"
        yield line.removesuffix("\n").removesuffix("\r"), where


def _parse(line: str, where: str) -> Record:
    def refuse(constant: str) -> NoReturn:
        raise InputError(f"{where}: {constant} is not JSON. Write a finite number or null.")

    try:
        value = json.loads(line, parse_constant=refuse)
        if "\\u" in line:  # an escape may be half a character, which no file can hold
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}). Each line must be one string or object.") from None
    except UnicodeEncodeError:
        raise InputError(f"{where}: is not Unicode text, as \\ud800 alone is none. Save it as UTF-8.") from None
    except InputError:
        raise
    except (RecursionError, ValueError):
        raise InputError(f"{where}: nested too deeply, or a number too long.") from None
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        raise InputError(f'{where}: is {type(value).__name__}. Each line must be a string or an object with "text".')
    if not {"text", "messages"} & value.keys():
        raise InputError(f'{where}: has no key "text" or "messages".{suggestion("text", value)}')
    if RESULT in value:
        raise InputError(f'{where}: has the key "{RESULT}", under which the result is written. Rename it.')
    return _checked(value, where)


def _checked(fields: dict[str, Any], where: str) -> Record:
    """A record whose text is text: a string or, for tasks that read words, a list of them."""
    for name in ("text", "text_pair"):
        value = fields.get(name, "")
        parts = value if isinstance(value, list) and name == "text" else [value]
        if value is None and name == "text_pair":
            continue
        for part in parts:
            if not isinstance(part, str):
                raise InputError(f'{where}: "{name}" holds {type(part).__name__}. It must be a string.')
            try:
                part.encode()
            except UnicodeEncodeError:
                raise InputError(f'{where}: "{name}" is not Unicode text. Save it as UTF-8.') from None
    return Record(fields, where)
