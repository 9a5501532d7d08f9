"""Every field of every config says what it means."""

from __future__ import annotations

import pytest
from tiny_models import built_in

from hezar_like.field_docs import field_defaults, field_docs, field_types
from hezar_like.registry import models_registry, preprocessors_registry

CONFIGS = {name: models_registry[name].config_class for name in built_in()} | {
    name: preprocessors_registry[name].config_class
    for name in preprocessors_registry
    if preprocessors_registry[name].module_class.__module__.startswith("hezar_like.")
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_is_described(name: str) -> None:
    docs = field_docs(CONFIGS[name])
    assert list(docs) == list(CONFIGS[name].fields())
    assert [field for field, text in docs.items() if len(text) < 10] == []
    assert [field for field, text in docs.items() if "\n" in text or not text.endswith((".", ")"))] == []


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_has_a_type_and_a_default(name: str) -> None:
    config_class = CONFIGS[name]
    assert list(field_types(config_class)) == list(field_defaults(config_class)) == list(config_class.fields())
    assert CONFIGS[name]().to_dict() == CONFIGS[name].from_dict(CONFIGS[name]().to_dict()).to_dict()
