"""Models: `Model`, and one file per family."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..builders import build_model as build_model
    from ..configs import ModelConfig as ModelConfig
    from ..registry import register_model as register_model
    from .model import Model as Model

_HERE = {
    "Model": ".model",
    "ModelConfig": "..configs",
    "build_model": "..builders",
    "register_model": "..registry",
}
__all__ = sorted(_HERE)


def __getattr__(name: str) -> Any:
    """Finds `Model` and its companions, and the classes of registered models under Hezar's names.

    `BertConfig`, `BERTConfig`, `BertTextClassification` and `BertTextClassificationConfig` need no list: they are
    registry names in capitals.
    """
    if name in _HERE:
        return getattr(import_module(_HERE[name], __name__), name)
    if name[:1].isupper():
        from ..registry import models_registry

        wanted = name.lower().removesuffix("config")
        for entry_name in models_registry:
            if entry_name.replace("_", "") == wanted:
                entry = models_registry[entry_name]
                return entry.config_class if name.endswith("Config") else entry.module_class
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
