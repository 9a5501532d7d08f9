"""Where the results of a command go: a file, a pipe, or a person."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CheckpointError, InputError
from ..paths import check_name, shortened
from ..terminals import is_terminal
from .parser import UsageError
from .records import RESULT, Record
from .terminal import printable, say

__all__ = ["Write", "check_output", "json_line", "open_output", "open_results"]

Write = Callable[[Record, Any], object]
SHOWN_NUMBERS = 6


@contextmanager
def open_results(path: str | None) -> Iterator[Write]:
    """Opens the output of a command.

    Args:
        path: A file, which appears when all is written and not before; None for standard output.

    Yields:
        A function that writes one result: JSON in lines, or, on a terminal, text.

    Raises:
        UsageError: When the path is not a place for a file.
        HubError: When the file cannot be written.
    """
    if path is None:
        if sys.stdout is None:
            raise UsageError("there is no standard output to write to. Give --output FILE")
        if isinstance(sys.stdout, io.TextIOWrapper) and not is_terminal(sys.stdout):
            sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever the locale says
        yield _show if is_terminal(sys.stdout) else lambda record, result: print(json_line(record, result))
        return
    with open_output(check_output(path)) as file:
        yield lambda record, result: file.write(f"{json_line(record, result)}\n".encode())


def check_output(path: str) -> Path:
    """The file that an output is written to: where a link leads, so that the link stays.

    Raises:
        UsageError: When the path is not a place for a file.
    """
    try:
        target = Path(path).expanduser().resolve()
        check_name(target.name, f"--output {shortened(path)}")
    except (CheckpointError, OSError, ValueError, RuntimeError):
        raise UsageError(f"--output {shortened(path)} is no name for a file. Give another") from None
    if target.exists() and (not target.is_file() or _is_standard_output(target)):
        raise UsageError(f"--output {path!r} is not a regular file of its own. Give another name, or leave it out")
    return target


@contextmanager
def open_output(target: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears when the block ends well, and not before.

    Args:
        target: What `check_output` gave.

    Raises:
        HubError: When it cannot be written.
    """
    from .. import files

    with files.stage(target.parent) as staged, staged(target.name).open("wb") as file:
        yield file


def _is_standard_output(target: Path) -> bool:
    """Whether a file is where standard output goes, as /dev/stdout is; to replace it would cut that off."""
    with suppress(OSError, ValueError):
        return os.path.samestat(os.fstat(sys.stdout.fileno()), target.stat())
    return False


def json_line(record: Record, result: Any) -> str:
    """A record with its result as one line, without its end.

    Raises:
        InputError: When JSON has no word for something in it.
    """
    try:
        return json.dumps({**record.fields, RESULT: result}, default=_plain, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{record.where}: cannot be written as JSON ({error}).") from None


def _plain(value: Any) -> Any:
    """What JSON has no word for: tensors and arrays are lists, records of any kind are objects."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"the result holds a {type(value).__name__}")


def _show(record: Record, result: Any) -> None:
    """The text, and under it the result, one line for each of its parts."""
    text = record.fields.get("text", "(a conversation)")
    pair = record.fields.get("text_pair")
    heading = printable(" ".join(text) if isinstance(text, list) else text) + (f" | {printable(pair)}" if pair else "")
    width = shutil.get_terminal_size().columns
    print(heading if len(heading) <= width else f"{heading[: width - 3]}...")
    several = isinstance(result, list) and all(isinstance(part, list | Mapping) for part in result)
    for part in (result if several else [result]) or ["(nothing)"]:
        say(f"  {_brief(part)}")


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return "  ".join(f"{key}={_brief(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):
        shape, numbers = tuple(getattr(value, "shape", ())), value.reshape(-1)[:SHOWN_NUMBERS].tolist()
        more = ", ..." if shape and len(numbers) < value.reshape(-1).shape[0] else ""
        return f"{list(shape)} {', '.join(map(_brief, numbers))}{more}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_brief, value))}]"
    return str(value)
