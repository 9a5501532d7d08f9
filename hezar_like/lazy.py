"""Names of a package that are imported when they are first asked for (PEP 562), so that importing it costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, names_of: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """What a package's `__init__` calls `__all__`, `__getattr__` and `__dir__`.

    Args:
        package: Its `__name__`.
        names_of: The public names that each module has; a module without a dot is one of the package, others are
            relative to it, as in `..configs`.
    """
    module_of = {
        name: module if module.startswith(".") else f".{module}" for module, names in names_of.items() for name in names
    }

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module_of[name], package), name)

    public = sorted(module_of)
    return public, find, lambda: public
