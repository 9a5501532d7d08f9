"""Hezar's names for files and kinds."""

from __future__ import annotations

from enum import StrEnum

DEFAULT_MODEL_FILE = "model.safetensors"
DEFAULT_MODEL_CONFIG_FILE = "model_config.yaml"
DEFAULT_DATASET_CONFIG_FILE = "dataset_config.yaml"
DEFAULT_EMBEDDING_CONFIG_FILE = "embedding_config.yaml"
DEFAULT_TOKENIZER_FILE = "tokenizer.json"
DEFAULT_TOKENIZER_CONFIG_FILE = "tokenizer_config.yaml"
DEFAULT_NORMALIZER_CONFIG_FILE = "normalizer_config.yaml"
DEFAULT_PREPROCESSOR_SUBFOLDER = "preprocessor"


class ConfigType(StrEnum):
    """What `config_type` in a config says."""

    BASE = "base"
    MODEL = "model"
    PREPROCESSOR = "preprocessor"
    DATASET = "dataset"
    METRIC = "metric"
    EMBEDDING = "embedding"


class RegistryType(StrEnum):
    """The kinds of registries, as `hezar_like.utils.get_module_class` takes them."""

    MODEL = "model"
    PREPROCESSOR = "preprocessor"
    DATASET = "dataset"
    METRIC = "metric"
    EMBEDDING = "embedding"
