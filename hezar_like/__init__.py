"""Build, load, run, save and share models in one line, whatever system their checkpoint came from.

    from hezar_like import Model
    Model.load("org/name").predict(["a text", "another"])

Importing this package imports no torch; names are found when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "builders": ("build_dataset", "build_embedding", "build_metric", "build_model", "build_preprocessor"),
        "configs": ("Config", "ModelConfig", "PreprocessorConfig"),
        "data": ("Dataset",),
        "errors": ("HezarLikeError",),
        "metrics": ("Metric",),
        "models": ("Model",),
        "preprocessors": ("Preprocessor", "Tokenizer"),
        "registry": (
            "register_dataset", "register_embedding", "register_metric", "register_model", "register_preprocessor",
        ),
        "training": ("Trainer", "TrainerConfig"),
        "utils": (
            "list_available_datasets", "list_available_embeddings", "list_available_metrics", "list_available_models",
            "list_available_preprocessors",
        ),
    },
)  # fmt: skip
__all__ += ["__version__"]

if TYPE_CHECKING:
    from .builders import build_dataset as build_dataset
    from .builders import build_embedding as build_embedding
    from .builders import build_metric as build_metric
    from .builders import build_model as build_model
    from .builders import build_preprocessor as build_preprocessor
    from .configs import Config as Config
    from .configs import ModelConfig as ModelConfig
    from .configs import PreprocessorConfig as PreprocessorConfig
    from .data.dataset import Dataset as Dataset
    from .errors import HezarLikeError as HezarLikeError
    from .metrics.metric import Metric as Metric
    from .models.model import Model as Model
    from .preprocessors.preprocessor import Preprocessor as Preprocessor
    from .preprocessors.tokenizer import Tokenizer as Tokenizer
    from .registry import register_dataset as register_dataset
    from .registry import register_embedding as register_embedding
    from .registry import register_metric as register_metric
    from .registry import register_model as register_model
    from .registry import register_preprocessor as register_preprocessor
    from .training.config import TrainerConfig as TrainerConfig
    from .training.trainer import Trainer as Trainer
    from .utils import list_available_datasets as list_available_datasets
    from .utils import list_available_embeddings as list_available_embeddings
    from .utils import list_available_metrics as list_available_metrics
    from .utils import list_available_models as list_available_models
    from .utils import list_available_preprocessors as list_available_preprocessors
