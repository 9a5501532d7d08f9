"""The border to the Rust library `tokenizers`: what fails there leaves as one of our errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from ..errors import HezarLikeError, PreprocessorError, TokenizerError, one_line
from ..text_files import read_bounded

__all__ = ["guarded", "read_backend"]

MAX_BYTES = 200_000_000  # the largest published ones have 35 MB
MAX_GROWTH = 1000


@contextmanager
def guarded(what: str, advice: str, error_class: type[PreprocessorError] = TokenizerError) -> Iterator[None]:
    """Turns everything that Rust raises into one error.

    A panic of Rust code arrives as `PanicException`, which is a BaseException that cannot be imported.

    Args:
        what: The thing that failed, for the beginning of the message.
        advice: What to do next, for its end.
        error_class: The error to raise.
    """
    try:
        yield
    except HezarLikeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = one_line(error) or type(error).__name__
        raise error_class(f"{what} ({reason}). {advice}") from None


def read_backend(path: str | Path) -> RustTokenizer:
    """Reads a tokenizer.json.

    Raises:
        TokenizerError: With the path.
    """
    with guarded(f"{str(path)!r} is not a tokenizer that can be read", "Download it again, or save it anew."):
        data = read_bounded(Path(path), MAX_BYTES)
        if data.startswith(b"version https://git-lfs"):
            raise ValueError("it is a Git LFS pointer; run `git lfs pull`")
        backend = RustTokenizer.from_str(data.decode())
        for part in (backend.normalizer, backend.pre_tokenizer, backend.post_processor, backend.decoder):
            if part is not None and _growth(json.loads(part.__getstate__())) > MAX_GROWTH:
                raise ValueError(f"its {type(part).__name__} could make a text more than {MAX_GROWTH} times as long")
        return backend


def _growth(part: Any) -> int:
    """How many times as long a part may make a text, by what it puts in.

    A kilobyte could ask for all memory, and where Rust finds none, it ends the process.
    """
    if isinstance(part, dict):
        inserted = [part[key] for key in ("content", "prepend", "ids") if isinstance(part.get(key), str | list)]
        return math.prod(max(len(item), 1) for item in inserted) * math.prod(map(_growth, part.values()))
    return math.prod(map(_growth, part)) if isinstance(part, list) else 1
