"""Names of files and folders: those that users give, and those that stand in files of strangers."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from pathlib import Path

from .errors import CheckpointError, HubError, OptionError

__all__ = ["check_name", "existing_folder", "folder_at", "shortened", "text_of"]

MAX_NAME_BYTES = 255
LONGEST_SHOWN = 200


def shortened(value: object, longest: int = LONGEST_SHOWN) -> str:
    """How a value is shown in a message: as Python writes it, however long it is."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def check_name(name: str, where: str) -> str:
    """Checks a file name that comes from a config, an index or a repository.

    Args:
        name: The name, with '/' between folders.
        where: The file or field it was read from, for the message.

    Returns:
        The same name.

    Raises:
        CheckpointError: When it is not a plain relative path inside the model folder.
    """
    plain = (
        isinstance(name, str)
        and not any(part in ("", ".", "..") for part in name.split("/"))
        and not any(letter in "\\:" or unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        and len(name.encode()) <= MAX_NAME_BYTES
    )
    if not plain:
        raise CheckpointError(
            f"file names must be inside the model folder, and {where} has {shortened(name, 100)}: "
            f"use a relative name of at most {MAX_NAME_BYTES} bytes such as 'model.safetensors'"
        )
    return name


def text_of(path: str | os.PathLike[str], what: str) -> str:
    """The text of a path that a user gave.

    Args:
        path: The path.
        what: What it is of, for the message.

    Raises:
        OptionError: When it is none.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise OptionError(f"{what} is {shortened(path)} ({type(path).__name__}); it must be a text or a Path.")
    return text


def folder_at(path: str | os.PathLike[str], what: str = "the folder") -> Path:
    """The folder that a user names, whether it is there or not.

    Args:
        path: Its path; '~' is the user's home.
        what: What it is, for the message.

    Raises:
        OptionError: When it is no path.
        HubError: When the system cannot have such a path, or does not let it be looked at.
    """
    if not text_of(path, what).strip():
        raise HubError(f"{what} is {shortened(path)}, which names none; give its path, such as '.' for this one")
    try:
        folder = Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder.stat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HubError(f"{what} {shortened(str(path))} cannot be used: {reason.rstrip('.')}; choose another") from None
    return folder


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """A folder that must be there.

    Raises:
        HubError: When it is not.
    """
    folder = folder_at(path)
    if not folder.is_dir():
        raise HubError(
            f"there is no folder {str(path)!r}; check the path, or leave out load_locally=True to ask the Hub"
        )
    return folder
