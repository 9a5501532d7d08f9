"""What the fields of a config mean, for listings and reference pages: read from where people wrote it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .configs import Config

__all__ = ["field_defaults", "field_docs", "field_types"]

_ENTRY = re.compile(r"(\w+(?:, \w+)*): (.*)")


def field_docs(config_class: type[Config]) -> dict[str, str]:
    """The meaning of each field, on one line.

    It is the string under the field in the source of the class, or its entry under "Attributes:" in the class's
    docstring; a field without either takes the meaning from the class it was inherited from.

    Args:
        config_class: The config. Its source need not be at hand; then only docstrings count.

    Returns:
        Every field in order; "" for one that nobody described.
    """
    documented: dict[str, str] = {}
    for cls in reversed(config_class.__mro__):
        documented |= _attributes_section(cls) | _strings_under_fields(cls)
    return {name: documented.get(name, "") for name in config_class.fields()}


def field_types(config_class: type[Config]) -> dict[str, str]:
    """The type of each field as a person would write it: without ranges, with the choices where there are few."""
    try:
        hints = typing.get_type_hints(config_class, include_extras=True)
    except NameError:  # a name that is only local to the function the class is defined in
        hints = {field.name: field.type for field in dataclasses.fields(config_class)}
    return {name: _type_name(hints[name]) for name in config_class.fields()}


def field_defaults(config_class: type[Config]) -> dict[str, str]:
    """The default of each field as Python would show it; a field without one is left out."""
    defaults = {}
    for field in dataclasses.fields(config_class):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = repr(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = repr(field.default_factory())
    return {name: defaults[name] for name in config_class.fields() if name in defaults}


def _strings_under_fields(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # built in, composed, or typed into an interpreter
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found


def _attributes_section(cls: type) -> dict[str, str]:
    """Entries `name: text` or `name, name: text`; lines indented deeper go on with the text."""
    _, _, section = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        entry = _ENTRY.fullmatch(line.strip()) if not line.startswith("     ") else None
        if entry:
            names = entry[1].split(", ")
        for name in names:
            found[name] = entry[2] if entry else f"{found[name]} {line.strip()}"
    return found


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(_type_name, arguments))
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if annotation is type(None):
        return "None"
    if origin is not None:
        return f"{_type_name(origin)}[{', '.join(map(_type_name, arguments))}]"
    if annotation is Ellipsis:
        return "..."
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
