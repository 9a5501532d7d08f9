"""What a model is, in text that fits a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from .model import Model

__all__ = ["count", "describe", "tabulate"]


def describe(model: Model) -> str:
    """A few lines: name, task, size, type, device, preprocessors, source."""
    lines = [f"{type(model).__name__}({model.config.name!r})"]
    lines += [f"  {key + ':':<15}{value}" for key, value in facts(model).items()]
    return "\n".join(lines)


def facts(model: Model) -> dict[str, str]:
    """The lines of `describe`."""
    labels = model.config.get("id2label")
    return {
        "task": getattr(model, "task", "") or "-",
        "parameters": f"{count(model.num_parameters)} ({model.num_parameters * model.dtype.itemsize / 1e6:,.1f} MB)",
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "labels": _shorten([repr(label) for label in labels.values()]) if labels else "-",
        "preprocessors": ", ".join(model.preprocessor) or "-",
        "source": str(model.source) if model.source else "built, not loaded",
    }


def tabulate(model: Model, depth: int = 3, rows: int = 20) -> str:
    """`describe`, and a table of the modules with their parameters.

    Args:
        model: The model.
        depth: How deep into the modules to go.
        rows: The most modules to list.
    """
    table = [
        (name, type(part).__name__, sum(p.numel() for p in part.parameters())) for name, part in _parts(model, depth)
    ]
    hidden = len(table) - rows
    table = table[:rows]
    name_width = max([len(row[0]) for row in table], default=0) + 2
    kind_width = max([len(row[1]) for row in table], default=0) + 2
    lines = [describe(model), ""]
    lines += [f"  {name:<{name_width}}{kind:<{kind_width}}{count(size):>8}" for name, kind, size in table]
    if hidden > 0:
        lines.append(f"  ... and {hidden} more modules")
    return "\n".join(lines)


def count(number: int) -> str:
    """1234567 as "1.2M"."""
    for factor, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= factor:
            return f"{number / factor:.1f}{letter}"
    return str(number)


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


def _shorten(names: list[str], limit: int = 70) -> str:
    text = ", ".join(names)
    return text if len(text) <= limit else f"{text[: limit - 10]}... ({len(names)})"
