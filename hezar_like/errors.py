"""Every error a user can meet. Each message names the thing, its value, and what to do next."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "HezarLikeError",
    "HubError",
    "InputError",
    "MissingDependency",
    "NonFiniteOutput",
    "OptionError",
    "OutOfMemory",
    "PreprocessorError",
    "ProcessLost",
    "RegistryError",
    "TokenizerError",
    "did_you_mean",
    "listed",
    "one_line",
    "require",
]


class HezarLikeError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(HezarLikeError, ValueError):
    """A config key, type, range or file is wrong."""


class RegistryError(HezarLikeError, KeyError):
    """A name is unknown, or taken already."""

    def __str__(self) -> str:  # KeyError shows its message in quotes
        return str(self.args[0]) if self.args else ""


class CheckpointError(HezarLikeError, ValueError):
    """Weights are missing, broken, or do not fit the model."""


class PreprocessorError(HezarLikeError, ValueError):
    """A preprocessor is missing, or its files are broken."""


class TokenizerError(PreprocessorError):
    """A tokenizer's files are broken, or it failed on a text."""


class DataError(HezarLikeError, ValueError):
    """Data to train or measure with is missing, broken, or not what it was said to be."""


class InputError(HezarLikeError, ValueError):
    """An input to predict is not what the task takes.

    Args:
        message: What is wrong with it, beginning with a verb when an index is given.
        index: Which input it is, counted from 0; None when the error is not about one of them.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index

    def __str__(self) -> str:
        message = str(self.args[0])
        return message if self.index is None else f"item {self.index} of the inputs {message}"


class OutOfMemory(InputError, MemoryError):
    """One input of predict, or a batch that is not the library's to cut, needs more memory than is free."""


class OptionError(HezarLikeError, TypeError):
    """An option that nobody takes, or a wrong value for one."""


class HubError(HezarLikeError, OSError):
    """A file or repository could not be read from or written to the Hub or the disk."""


class ProcessLost(HezarLikeError, ConnectionError):
    """Another process of a training ended before its time."""


class NonFiniteOutput(HezarLikeError, ArithmeticError):
    """A model returned NaN or infinity, so its answer would be meaningless."""


class MissingDependency(HezarLikeError, ImportError):
    """An optional package is needed for this and is not installed."""


def did_you_mean(name: object, known: Iterable[str], *, listing: int = 12) -> str:
    """Ends an error message: the nearest known names, or all of them when none is near and they are few.

    Args:
        name: What the user wrote.
        known: What would have been right.
        listing: Up to how many known names are listed when none is near.

    Returns:
        A sentence that starts with a space, or an empty string.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    if near:
        return f" Did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return ""
    shown = ", ".join(names[:listing]) + (f", ... ({len(names)} in all)" if len(names) > listing else "")
    return f" Known: {shown}."


def listed(names: Iterable[object], *, most: int = 20) -> str:
    """Names from outside for a message: as Python writes them, long ones cut, and of many only the first.

    Args:
        names: The names.
        most: How many are listed.
    """
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(f"{name!r:.100}" for name in found[:most]) + more


def one_line(said: object, *, most: int = 300) -> str:
    """What another library says, for a message: on one line, control characters written out, and cut.

    Args:
        said: A text, or an error.
        most: How many characters are kept.
    """
    text = " ".join(str(said).split())[:most]
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def require(module: str, *, extra: str) -> ModuleType:
    """Imports an optional package.

    Args:
        module: Its import name.
        extra: The extra of this package that installs it.

    Raises:
        MissingDependency: When it is not installed; says what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"this needs the package {module!r}, which could not be imported ({error}). "
            f"Install it with: pip install 'hezar_like[{extra}]'"
        ) from error
