"""pytest's fixtures; pytest loads this module by itself where the package is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .hub_server import HubServer

__all__ = ["hub", "hub_environment"]

UNSET = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE")
SETTINGS = {
    "HF_HUB_DISABLE_XET": 1,
    "HF_HUB_DISABLE_PROGRESS_BARS": 1,
    "HF_HUB_DISABLE_TELEMETRY": 1,
    "HF_HUB_DISABLE_UPDATE_CHECK": 1,
    "HF_HUB_DOWNLOAD_TIMEOUT": 2,
    "HF_HUB_ETAG_TIMEOUT": 2,
}


@pytest.fixture
def hub_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no token, for this process and those it starts, whatever was imported before.

    Returns:
        HF_HOME, in pytest's temporary folder.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import _cache_manager, tqdm  # type: ignore[attr-defined]

    home = tmp_path / "hf_home"
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(constants, name, value if value > 1 else bool(value))
    monkeypatch.setattr(sys.modules[tqdm.__module__], "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HEZAR_LIKE_UPLOAD_TIMEOUT", "2")
    for module in (constants, _cache_manager):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return home


@pytest.fixture
def hub(hub_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on this computer that the client of this process, and of those it starts, uses; see `HubServer`.

    Its one user is "tester", who may write and whose token, `hub.token`, is set.
    """
    from huggingface_hub import close_session, constants, hf_api

    from .hub_server import HubServer

    before = constants.ENDPOINT
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(before)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server
        close_session()  # no connection is left to be found open later
