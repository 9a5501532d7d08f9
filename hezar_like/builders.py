"""From a registry name to an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .configs import Config, ModelConfig
from .errors import ConfigError
from .registry import (
    Registered,
    Registry,
    datasets_registry,
    embeddings_registry,
    metrics_registry,
    models_registry,
    preprocessors_registry,
)

if TYPE_CHECKING:
    from .models.model import Model

__all__ = ["build_dataset", "build_embedding", "build_metric", "build_model", "build_preprocessor", "config_for"]


def build_model(name: str, config: Config | None = None, **kwargs: Any) -> Model:
    """Builds a model with random weights.

    Args:
        name: A registry name: a family ("bert"), a family for a task ("bert_text_classification"), or your own.
        config: Its config, or, for a family's model for a task, the family's; default: the defaults.
        **kwargs: Config fields; they win over `config`.

    Returns:
        The `Model`, in training mode like any new `torch.nn.Module`.

    Raises:
        RegistryError: For an unknown name.
        ConfigError: For an unknown field, a wrong type, or a value out of range.
    """
    model: Model = _build(models_registry, name, config, kwargs)
    return model


def build_preprocessor(name: str, config: Config | None = None, **kwargs: Any) -> Any:
    """Builds a preprocessor; see `build_model`."""
    return _build(preprocessors_registry, name, config, kwargs)


def build_dataset(
    name: str,
    config: Config | None = None,
    split: Any = None,
    preprocessor: Any = None,
    *,
    rows: Any = None,
    **kwargs: Any,
) -> Any:
    """Builds a dataset; `split`, `preprocessor` and `rows`, where given, go to its class; see `build_model`."""
    given = {} if rows is None else {"rows": rows}
    return _build(datasets_registry, name, config, kwargs, split=split, preprocessor=preprocessor, **given)


def build_metric(name: str, config: Config | None = None, **kwargs: Any) -> Any:
    """Builds a metric; see `build_model`."""
    return _build(metrics_registry, name, config, kwargs)


def build_embedding(name: str, config: Config | None = None, **kwargs: Any) -> Any:
    """Builds a word embedding; see `build_model`."""
    return _build(embeddings_registry, name, config, kwargs)


def config_for(entry: Registered, config: Config | None, overrides: dict[str, Any]) -> Config:
    """A config of an entry's own class: kwargs over config over defaults. The given config is never changed.

    Raises:
        ConfigError: When the config is of another kind.
    """
    kind = entry.config_class
    if config is None:
        return kind.from_dict({}, **overrides)
    related = isinstance(config, kind) or issubclass(kind, type(config))
    if not related or config.name not in ("", kind.name, kind.family if issubclass(kind, ModelConfig) else ""):
        raise ConfigError(
            f"{entry.name!r} is built from a {kind.__name__}, but the config is a {type(config).__name__}. "
            f"Give a {kind.__name__}, or leave it out."
        )
    own = type(config) if isinstance(config, kind) else kind
    return own.from_dict(config.to_dict()).update(overrides)


def _build(registry: Registry, name: str, config: Config | None, overrides: dict[str, Any], **others: Any) -> Any:
    entry = registry[name]
    return entry.module_class(config_for(entry, config, overrides), **others)
