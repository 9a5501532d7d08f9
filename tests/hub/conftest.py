"""A local Hub for every test of this folder, and a client that knows no other place and waits for nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import file_download
from huggingface_hub.utils import _http

from hezar_like import hub_client
from hezar_like.testing import HubServer
from hezar_like.testing.plugin import hub_environment

__all__ = ["hub_environment"]

USERS = {
    "hf_write": {"name": "ann", "orgs": ["acme"], "role": "write"},
    "hf_read": {"name": "ann", "orgs": [], "role": "read"},
    "hf_other": {"name": "bob", "orgs": [], "role": "write"},
}


@pytest.fixture(autouse=True)
def own_environment(hub_environment: Path) -> None:
    """Every test has it."""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub with three users, which the client only finds by HF_ENDPOINT or an argument."""
    with HubServer(tokens=USERS) as server:
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, of ours and of the client's, which take no time then."""
    taken: list[float] = []
    hurried = SimpleNamespace(**{**vars(time), "sleep": taken.append})
    for module in (hub_client, _http, file_download):
        monkeypatch.setattr(module, "time", hurried)
    monkeypatch.setattr(hub_client, "random", random.Random(0))
    return taken


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The client leaves files and connections that broke to the garbage collector, which tells of them."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
