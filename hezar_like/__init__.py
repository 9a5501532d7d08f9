"""Build, load, run, train, save and share models in one line, whatever system their checkpoint came from.

    from hezar_like import Model
    Model.load("org/name").predict(["a text", "another"])

Importing this package imports no torch; names are found when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HERE = {
    "Config": "configs",
    "HezarLikeError": "errors",
    "Model": "models",
    "ModelConfig": "configs",
    "Preprocessor": "preprocessors",
    "PreprocessorConfig": "configs",
    "Tokenizer": "preprocessors",
    "build_dataset": "builders",
    "build_embedding": "builders",
    "build_metric": "builders",
    "build_model": "builders",
    "build_preprocessor": "builders",
    "list_available_datasets": "utils",
    "list_available_embeddings": "utils",
    "list_available_metrics": "utils",
    "list_available_models": "utils",
    "list_available_preprocessors": "utils",
    "register_dataset": "registry",
    "register_embedding": "registry",
    "register_metric": "registry",
    "register_model": "registry",
    "register_preprocessor": "registry",
}
__all__ = ["__version__", *_HERE]  # noqa: PLE0604

if TYPE_CHECKING:
    from .builders import build_dataset, build_embedding, build_metric, build_model, build_preprocessor
    from .configs import Config, ModelConfig, PreprocessorConfig
    from .errors import HezarLikeError
    from .models.model import Model
    from .preprocessors import Preprocessor, Tokenizer
    from .registry import (
        register_dataset,
        register_embedding,
        register_metric,
        register_model,
        register_preprocessor,
    )
    from .utils import (
        list_available_datasets,
        list_available_embeddings,
        list_available_metrics,
        list_available_models,
        list_available_preprocessors,
    )


def __getattr__(name: str) -> Any:
    if name in _HERE:
        return getattr(import_module(f".{_HERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
