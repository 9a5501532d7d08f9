"""The meanings of config fields, read from where they are written."""

from __future__ import annotations

from dataclasses import dataclass

from hezar_like.configs import ModelConfig
from hezar_like.field_docs import field_defaults, field_docs, field_types
from hezar_like.registry import models_registry


@dataclass
class _Base(ModelConfig):
    """A config.

    Attributes:
        first, second: Two of
            a kind.
        third: Alone.

    Not a field: really.
    """

    first: int = 1
    second: float | None = None
    third: list[int] | None = None


@dataclass
class _Derived(_Base):
    name = "derived"
    first: int = 3
    third: list[int] | None = None
    """Said
    again."""
    fourth: str = "x"


def test_field_docs() -> None:
    assert field_docs(_Derived) == {
        "first": "Two of a kind.", "second": "Two of a kind.", "third": "Said again.", "fourth": "",
    }  # fmt: skip
    assert field_types(_Derived)["third"] == "list[int] | None"
    assert field_defaults(_Derived)["first"] == "3"
    built = dataclass(type("Typed", (_Base,), {"__annotations__": {"fifth": int}, "fifth": 5}))
    assert field_docs(built)["third"] == "Alone."


def test_every_field_of_every_model_says_what_it_means() -> None:
    configs = [entry.config_class for entry in models_registry.values() if "hezar_like" in entry.where]
    assert {f"{c.name}.{field}" for c in configs for field, text in field_docs(c).items() if not text} == set()
