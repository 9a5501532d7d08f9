"""Hezar's names for looking into the registries, and a few helpers of its scripts."""

from __future__ import annotations

import random
from typing import Any

from .configs import REGISTRIES
from .registry import (
    datasets_registry,
    embeddings_registry,
    metrics_registry,
    models_registry,
    preprocessors_registry,
)

__all__ = [
    "get_module_class",
    "get_module_config_class",
    "list_available_datasets",
    "list_available_embeddings",
    "list_available_metrics",
    "list_available_models",
    "list_available_preprocessors",
    "set_seed",
]


def list_available_models() -> list[str]:
    """Names `build_model` takes."""
    return list(models_registry)


def list_available_preprocessors() -> list[str]:
    """Names `build_preprocessor` takes."""
    return list(preprocessors_registry)


def list_available_datasets() -> list[str]:
    """Names `build_dataset` takes."""
    return list(datasets_registry)


def list_available_metrics() -> list[str]:
    """Names `build_metric` takes."""
    return list(metrics_registry)


def list_available_embeddings() -> list[str]:
    """Names `build_embedding` takes."""
    return list(embeddings_registry)


def get_module_class(name: str, registry_type: str) -> Any:
    """The class behind a registry name; `registry_type` is "model", "preprocessor", ..."""
    return REGISTRIES[str(registry_type)][name].module_class


def get_module_config_class(name: str, registry_type: str) -> Any:
    """The config class behind a registry name; see `get_module_class`."""
    return REGISTRIES[str(registry_type)][name].config_class


def set_seed(seed: int) -> None:
    """Seeds Python's and torch's random numbers."""
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
