"""A local Hub for every test of this folder, and a client that knows no other place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

sys.path.insert(0, str(Path(__file__).parent))

from hubserver import HubServer

USERS = {
    "hf_write": {"name": "ann", "orgs": ["acme"], "role": "write"},
    "hf_read": {"name": "ann", "orgs": [], "role": "read"},
    "hf_other": {"name": "bob", "orgs": [], "role": "write"},
}


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the client up for the local Hub, in subprocesses too and whoever imported the client before."""
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    values = {
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_UPDATE_CHECK": True,
        "HF_HUB_DOWNLOAD_TIMEOUT": 2,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(int(value)))
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf_home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf_home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(tokens=USERS) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The client leaves files and connections that broke to the garbage collector, which tells of them."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
