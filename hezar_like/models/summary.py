"""What a model is, in text that fits a screen."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from .model import Model

__all__ = ["count", "describe", "shorten", "sizes", "tabulate"]


def describe(model: Model) -> str:
    """What a model is, a line for each fact; a dash where there is none."""
    facts = {
        "task": model.task,
        "parameters": sizes(model.num_parameters, model.dtype.itemsize),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "labels": shorten((model.config.get("id2label") or {}).values()),
        "preprocessors": ", ".join(model.preprocessor),
        "source": str(model.source or "built, not loaded"),
    }
    title = f"{type(model).__name__}({model.config.name!r})"
    return "\n".join([title, *(f"  {key + ':':<15}{value or '-'}" for key, value in facts.items())])


def tabulate(module: nn.Module, depth: int = 3, rows: int = 20) -> str:
    """A table of the modules with their parameters.

    Args:
        module: Whose parts are listed.
        depth: How deep into the modules to go.
        rows: The most modules to list.
    """
    parts = _parts(module, depth)
    table = [(name, type(part).__name__, sum(p.numel() for p in part.parameters())) for name, part in parts[:rows]]
    name_width = max([len(row[0]) for row in table], default=0) + 2
    kind_width = max([len(row[1]) for row in table], default=0) + 2
    lines = [f"  {name:<{name_width}}{kind:<{kind_width}}{count(size):>8}" for name, kind, size in table]
    if len(parts) > rows:
        lines.append(f"  ... and {len(parts) - rows} more modules")
    return "\n".join(lines)


def count(number: int) -> str:
    """1234567 as "1.2M"."""
    for factor, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= factor:
            return f"{number / factor:.1f}{letter}"
    return str(number)


def sizes(parameters: int, bytes_each: int) -> str:
    """A number of parameters and the memory they take."""
    return f"{count(parameters)} ({parameters * bytes_each / 1e6:,.1f} MB)"


def shorten(names: Collection[str], limit: int = 70) -> str:
    """Names with repr, as they may come from files; cut, with their number, when they are many."""
    text = ", ".join(map(repr, names))
    return text if len(text) <= limit else f"{text[: limit - 10]}... ({len(names)})"


def _parts(module: nn.Module, depth: int, prefix: str = "") -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, part in module.named_children():
        if isinstance(part, nn.ModuleList) and len(part) > 1:
            found.append((f"{prefix}{name} x {len(part)}", part))
        elif next(part.parameters(), None) is not None:
            found.append((f"{prefix}{name}", part))
            if depth > 1:
                found += _parts(part, depth - 1, f"{prefix}{name}.")
    return found
