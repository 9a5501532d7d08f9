"""Build, load, run, save and share models in one line, whatever system their checkpoint came from.

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
__all__ = ["__version__", *_HERE]

if TYPE_CHECKING:
    from .builders import build_dataset as build_dataset
    from .builders import build_embedding as build_embedding
    from .builders import build_metric as build_metric
    from .builders import build_model as build_model
    from .builders import build_preprocessor as build_preprocessor
    from .configs import Config as Config
    from .configs import ModelConfig as ModelConfig
    from .configs import PreprocessorConfig as PreprocessorConfig
    from .errors import HezarLikeError as HezarLikeError
    from .models.model import Model as Model
    from .preprocessors.preprocessor import Preprocessor as Preprocessor
    from .preprocessors.tokenizer import Tokenizer as Tokenizer
    from .registry import register_dataset as register_dataset
    from .registry import register_embedding as register_embedding
    from .registry import register_metric as register_metric
    from .registry import register_model as register_model
    from .registry import register_preprocessor as register_preprocessor
    from .utils import list_available_datasets as list_available_datasets
    from .utils import list_available_embeddings as list_available_embeddings
    from .utils import list_available_metrics as list_available_metrics
    from .utils import list_available_models as list_available_models
    from .utils import list_available_preprocessors as list_available_preprocessors


def __getattr__(name: str) -> Any:
    if name in _HERE:
        return getattr(import_module(f".{_HERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
