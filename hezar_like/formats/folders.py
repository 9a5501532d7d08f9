"""Writing a model's folder for another system: weights, a tokenizer's files and JSON configs, all at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import files
from ..errors import OptionError
from .weights import save_weights, stale_weights

if TYPE_CHECKING:
    from ..preprocessors import PreprocessorsContainer
    from ..preprocessors.tokenizer import Tokenizer

__all__ = ["only_tokenizer", "write_folder"]


def only_tokenizer(container: PreprocessorsContainer, system: str) -> Tokenizer | None:
    """The tokenizer of a model that is written for a system without other preprocessors; None when it has none.

    Raises:
        OptionError: When the model has others.
    """
    extra = [name for name in container if container[name] is not container.tokenizer]
    if extra:
        raise OptionError(
            f"{system} has no place for {', '.join(map(repr, extra))} and would read texts otherwise without. "
            "Set model.preprocessor = model.preprocessor.tokenizer first, and do that step yourself."
        )
    return container.tokenizer


def write_folder(
    folder: Path,
    weights: Mapping[str, Tensor],
    weights_name: str,
    others: Mapping[str, bytes],
    stale: Iterable[str],
    configs: Mapping[str, Any],
) -> Path:
    """Writes a folder, or, on an error, nothing.

    Args:
        folder: The folder.
        weights: Tensors by their names there.
        weights_name: What their file is called; older ones that would be read instead are removed.
        others: Contents of other files by name.
        stale: Names of files that a model written here before may have left; they are removed where none is written.
        configs: What JSON files hold, by name; they come last.

    Returns:
        The folder.
    """
    with files.stage(folder) as staged:
        kept = save_weights(weights, staged, weights_name)
        for name in stale_weights(weights_name, kept, [entry.name for entry in folder.iterdir()]):
            staged.remove(name)
        for name, data in others.items():
            staged(name).write_bytes(data)
        for name in stale:
            staged.remove(name)
        for name, values in configs.items():
            staged(name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder
