"""The border to the Rust library `tokenizers`: what fails there leaves as one of our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer

from ..errors import HezarLikeError, PreprocessorError, TokenizerError

__all__ = ["guarded", "read_backend"]


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
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise error_class(f"{what} ({reason}). {advice}") from None


def read_backend(path: str | Path) -> RustTokenizer:
    """Reads a tokenizer.json.

    Raises:
        TokenizerError: With the path.
    """
    with guarded(f"{str(path)!r} is not a tokenizer that can be read", "Download it again, or save it anew."):
        return RustTokenizer.from_str(_text_of(Path(path)))


def _text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if text.startswith("version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer; run `git lfs pull`")
    return text
