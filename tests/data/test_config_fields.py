"""Every field of the configs of datasets and metrics says what it means."""

from __future__ import annotations

import pytest

from hezar_like.field_docs import field_defaults, field_docs, field_types
from hezar_like.registry import datasets_registry, metrics_registry

CONFIGS = {
    f"{registry.kind} {name}": entry.config_class
    for registry in (datasets_registry, metrics_registry)
    for name, entry in registry.items()
    if entry.module_class.__module__.startswith("hezar_like.")
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_is_described(name: str) -> None:
    config_class = CONFIGS[name]
    docs = field_docs(config_class)
    assert list(docs) == list(config_class.fields())
    assert [field for field, text in docs.items() if len(text) < 10 or "\n" in text or not text.endswith((".", ")"))] == []
    assert list(field_types(config_class)) == list(field_defaults(config_class)) == list(config_class.fields())
    assert config_class.from_dict(config_class().to_dict()) == config_class()
