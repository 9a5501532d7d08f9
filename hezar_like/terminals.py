"""Whether anybody watches."""

from __future__ import annotations

from typing import TextIO

__all__ = ["is_terminal"]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; not where it is closed, or was never there, as in services."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
