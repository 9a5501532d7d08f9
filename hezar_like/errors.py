"""Every error a user can meet. Each message names the thing, its value, and what to do next."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "CheckpointError",
    "ConfigError",
    "HezarLikeError",
    "HubError",
    "InputError",
    "MissingDependency",
    "NonFiniteOutput",
    "OptionError",
    "PreprocessorError",
    "RegistryError",
    "TokenizerError",
    "did_you_mean",
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


class OptionError(HezarLikeError, TypeError):
    """An option that nobody takes, or a wrong value for one."""


class HubError(HezarLikeError, OSError):
    """A file or repository could not be read from or written to the Hub or the disk."""


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
