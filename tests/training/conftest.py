"""Small data and models to train; the folder is on the path, so that tests share `trained`."""

from __future__ import annotations

import pytest


@pytest.fixture
def any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor trains in the type it is told, in however many times the time."""
    monkeypatch.setattr("hezar_like.training.precision.multiplies", lambda *_: True)
