"""Puts this folder on the path, so that tests in all folders share `comparing` and `tiny_models`."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from hezar_like import registry

# More threads make models this tiny slower, above all when several processes test at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("whatever the load", deadline=None)
settings.load_profile("whatever the load")


@pytest.fixture
def own_registrations() -> Iterator[None]:
    """What a test registers is forgotten when it ends, so that no other test meets it."""
    registries = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    for each in registries:
        list(each)  # imports what is lazy, which would be forgotten too
    before = [dict(each._entries) for each in registries]
    yield
    for each, entries in zip(registries, before, strict=True):
        each._entries = entries
