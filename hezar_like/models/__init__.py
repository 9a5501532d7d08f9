"""Models: `Model`, and one file per family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import lazy_names

if TYPE_CHECKING:
    from ..builders import build_model as build_model
    from ..configs import ModelConfig as ModelConfig
    from ..registry import register_model as register_model
    from .model import Model as Model

__all__, _named, __dir__ = lazy_names(
    __name__,
    {
        "model": ("Model",),
        "..builders": ("build_model",),
        "..configs": ("ModelConfig",),
        "..registry": ("register_model",),
    },
)


def __getattr__(name: str) -> Any:
    """Finds `Model` and its companions, and the classes of registered models under Hezar's names.

    `BertConfig`, `BERTConfig`, `BertTextClassification` and `BertTextClassificationConfig` need no list: they are
    registry names in capitals.
    """
    if name not in __all__ and name[:1].isupper():
        from ..registry import models_registry

        wanted = name.lower().removesuffix("config")
        for entry_name in models_registry:
            if entry_name.replace("_", "") == wanted:
                entry = models_registry[entry_name]
                return entry.config_class if name.endswith("Config") else entry.module_class
    return _named(name)
