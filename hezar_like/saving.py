"""From a model to files: all of it, or, on an error, nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from torch import Tensor

from . import files, text_files
from .configs import ModelConfig
from .formats import refuse_other_layouts
from .formats.native import WEIGHTS
from .formats.weights import save_weights, stale_weights
from .preprocessors import PreprocessorsContainer
from .preprocessors.preprocessor import preprocessor_config_files

__all__ = ["save_model", "superseded"]


def superseded(filename: str, kept: Collection[str], existing: Iterable[str], *, with_preprocessor: bool) -> list[str]:
    """Files of a model that was saved before, which would be loaded with or instead of the new one's.

    Args:
        filename: Name of the new weights file.
        kept: Names that were written.
        existing: Names that are there.
        with_preprocessor: Whether preprocessors were written too.
    """
    existing = list(existing)
    names = {name for own in (filename, WEIGHTS[0]) for name in stale_weights(own, kept, existing)}
    if with_preprocessor:
        names |= set(preprocessor_config_files()) - set(kept)
    return sorted(names)


def save_model(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    preprocessor: PreprocessorsContainer | None,
    *,
    filename: str,
    config_filename: str,
) -> Path:
    """Saves a model in the native layout; see `Model.save`.

    Args:
        folder: Where to.
        config: The model's config.
        tensors: Its weights, shared ones once.
        preprocessor: Its preprocessors; None leaves those in the folder alone.
        filename: Name of the weights file.
        config_filename: Name of the config file.

    Raises:
        ConfigError: When fields that were set since do not fit each other.
        HubError: When the folder cannot be written, or holds a model of another layout.
    """
    config.check()
    folder = folder.expanduser()
    refuse_other_layouts(folder, own=("native",))
    with files.stage(folder) as staged:
        kept = save_weights(tensors, staged, filename)
        existing = [entry.name for entry in folder.iterdir()]
        # What is asked for here and written below stays: a name of this save is never deleted.
        for stale in superseded(filename, kept, existing, with_preprocessor=False):
            staged.remove(stale)
        if preprocessor is not None:
            for file, content in preprocessor.files().items():
                staged(file).write_bytes(content.encode() if isinstance(content, str) else content)
            for file in preprocessor_config_files():
                staged.remove(file)
        staged(config_filename).write_text(text_files.dump_yaml(config.to_dict()), encoding="utf-8")
    return folder
