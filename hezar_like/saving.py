"""From a model to files: all of it, or, on an error, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from . import files, text_files
from .configs import ModelConfig
from .formats import refuse_other_layouts
from .formats.weights import save_weights, stale_weights
from .preprocessors import PreprocessorsContainer
from .preprocessors.preprocessor import preprocessor_config_files

__all__ = ["save_model"]


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
        for stale in stale_weights(filename, kept, [entry.name for entry in folder.iterdir()]):
            staged.remove(stale)
        if preprocessor is not None:
            for file, content in preprocessor.files().items():
                staged(file).write_bytes(content.encode() if isinstance(content, str) else content)
            for file in preprocessor_config_files():
                staged.remove(file)  # of a model that was saved here before; what is written now stays
        staged(config_filename).write_text(text_files.dump_yaml(config.to_dict()), encoding="utf-8")
    return folder
