"""Dialects of checkpoints on disk: what their files are called, how to read and write them.

A format is one file here with one class. It is told from others by its files, never by a folder's name.
"""

from __future__ import annotations

from ..errors import CheckpointError
from ..hub import Source
from .format import Checkpoint, Content, Format, formats_registry, register_format

__all__ = ["Checkpoint", "Content", "Format", "detect", "formats_registry", "register_format"]


def detect(source: Source, config_filename: str | None = None) -> Format:
    """The format of a source's files.

    Args:
        source: Where the files are.
        config_filename: The config file's name, where the user chose one.

    Raises:
        CheckpointError: When it is none of the known ones.
    """
    formats: list[Format] = [formats_registry[name].module_class() for name in formats_registry]
    for candidate in sorted(formats, key=lambda item: item.rank):
        if candidate.detect(source, config_filename):
            return candidate
    looked_for = sorted({name for item in formats for name in item.tell_tales(config_filename)})
    raise CheckpointError(
        f"{source} holds no model that can be read: none of {', '.join(looked_for)} is there. "
        "Check the path; for a model of another system, convert it first."
    )
