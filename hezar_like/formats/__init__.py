"""Dialects of checkpoints on disk: what their files are called, how to read and write them.

A format is one file here with one class. It is told from others by its files, never by a folder's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..configs import ModelConfig
from ..errors import CheckpointError, ConfigError, HubError
from ..hub import Source
from ..text_files import read_json
from .format import Checkpoint, Content, Format, formats_registry, register_format

__all__ = [
    "refuse_other_layouts",
    "Checkpoint",
    "Content",
    "Format",
    "config_from_json",
    "detect",
    "formats_registry",
    "register_format",
    "write",
]


def refuse_other_layouts(folder: Path, own: Collection[str]) -> None:
    """Raises an error when a folder holds a model of another layout: one of both would later be loaded by chance.

    Args:
        folder: Where a model is about to be written.
        own: Names of the formats that may be there already.

    Raises:
        HubError: Names the format; nothing has been written.
    """
    source = Source(str(folder), folder=folder)
    for name in formats_registry if folder.is_dir() else ():
        if name not in own and formats_registry[name].module_class().detect(source, None):
            raise HubError(f"{str(folder)!r} holds a model in the {name} layout. Choose another folder, or remove it.")


def detect(source: Source, config_filename: str | None = None) -> Format:
    """The format of a source's files.

    Args:
        source: Where the files are.
        config_filename: The config file's name, where the user chose one.

    Raises:
        CheckpointError: When it is none of the known ones.
    """
    formats: list[Format] = [formats_registry[name].module_class() for name in formats_registry]
    for candidate in sorted(formats, key=_rank):
        if candidate.detect(source, config_filename):
            return candidate
    looked_for = sorted({name for item in formats for name in item.tell_tales(config_filename)})
    raise CheckpointError(
        f"{source} holds no model that can be read: none of {', '.join(looked_for)} is there. "
        "Check the path; for a model of another system, convert it first."
    )


def config_from_json(
    path: Path, *, family: str | None = None, task: str | None = None, overrides: Mapping[str, Any] | None = None
) -> ModelConfig:
    """The config of a new model, from a config.json of another system.

    Args:
        path: The file.
        family: The family, which ModelCenter's files do not name; default: what the file says.
        task: The task; default: what the file says.
        overrides: Settings that win, under the file's names or as fields of our config.

    Raises:
        ConfigError: When the file or a setting is wrong, or is none of a system that is known here.
        RegistryError: When the family has no head for the task.
    """
    overrides = overrides or {}
    values = read_json(path, infinite=True)
    values |= {key: value for key, value in overrides.items() if key in values}
    forms: list[Format] = sorted((formats_registry[name].module_class() for name in formats_registry), key=_rank)
    configs = (form.read_config(values, path, family, task) for form in forms)
    config = next((found for found in configs if found is not None), None)
    if config is None:
        raise ConfigError(f"{str(path)!r} is no config of {family or 'a model'!r} in a layout that is known here.")
    return config.update({key: value for key, value in overrides.items() if key not in values})


def _rank(form: Format) -> int:
    return form.rank


def write(name: str, content: Content, folder: Path) -> Path:
    """Writes a model in a format; see `Model.export`.

    Returns:
        The folder.
    """
    form: Format = formats_registry[name].module_class()
    folder = folder.expanduser()
    refuse_other_layouts(folder, own=(name, *form.shares))
    return form.write(content, folder)
