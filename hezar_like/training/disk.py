"""What is said when the log or a checkpoint cannot be written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..files import disk_error

__all__ = ["writing"]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says what cannot be written while it is entered, and why.

    Args:
        path: The file or folder.

    Raises:
        HubError: When the disk is full, or the place may not be written to.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from None
