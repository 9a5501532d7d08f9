"""A file that is not what the Hub announced is never loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from hezar_like import ModelConfig
from hezar_like.errors import HubError
from hezar_like.hub import Source, resolve
from hezar_like.hub_files import is_intact
from hezar_like.testing import HubServer

SMALL, LARGE = "model_config.yaml", "model.safetensors"
CONTENT = {SMALL: b"name: bert\n", LARGE: bytes(range(256)) * 5000}


@pytest.fixture
def commit(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.add_file("ann/m", SMALL, CONTENT[SMALL])
    return hub.add_file("ann/m", LARGE, CONTENT[LARGE])


def damage(path: Path) -> None:
    """Flips a bit on the disk."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.resolve().write_bytes(content)


def load(commit: str, name: str, **options: object) -> bytes:
    return resolve("ann/m", revision=commit, **options).get(name).read_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CONTENT)
def test_a_bit_that_flips_on_its_way(hub: HubServer, commit: str, name: str) -> None:
    hub.fault(f"{name}|/cdn/", "GET", corrupt=True, skip=name == LARGE)
    assert load(commit, name) == CONTENT[name]


@pytest.mark.parametrize("name", CONTENT)
def test_bits_that_always_flip_leave_nothing_behind(hub: HubServer, commit: str, name: str) -> None:
    hub.fault("/cdn/" if name == LARGE else name, "GET", corrupt=True, times=-1)
    with pytest.raises(HubError, match="2 times, is not what the Hub announced"):
        load(commit, name)
    with pytest.raises(HubError, match="not in the cache"):
        load(commit, name, local_files_only=True)
    hub.faults.clear()
    assert load(commit, name) == CONTENT[name]


@pytest.mark.parametrize("name", CONTENT)
def test_a_bit_that_flips_on_the_disk(hub: HubServer, commit: str, name: str) -> None:
    damage(resolve("ann/m", revision=commit).get(name))
    hub.clear()
    assert load(commit, name) != CONTENT[name]  # nobody looks, unless asked to
    with pytest.raises(HubError, match=r"broken in the cache.*verify=True"):
        load(commit, name, verify=True, local_files_only=True)
    assert not hub.log
    assert load(commit, name, verify=True) == CONTENT[name]
    hub.clear()
    assert load(commit, name, verify=True) == CONTENT[name] and not hub.log


def test_a_cache_without_links(hub: HubServer, commit: str) -> None:
    """As on file systems that have none: the hash is then asked for."""
    for name in CONTENT:
        path = resolve("ann/m", revision=commit).get(name)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        assert is_intact(path) is None
        assert load(commit, name, verify=True) == CONTENT[name]
        with pytest.raises(HubError, match="leave out verify=True"):
            load(commit, name, verify=True, local_files_only=True)
        path.write_bytes(content[:-1] + b"?")
        assert load(commit, name, verify=True) == CONTENT[name]


def test_every_load_takes_verify(hub: HubServer, commit: str) -> None:
    damage(resolve("ann/m", revision=commit).get(SMALL))
    assert ModelConfig.load("ann/m", verify=True).name == "bert"


def test_a_plain_sha1_is_a_hash_too(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / hashlib.sha1(b"content").hexdigest()
    path.write_bytes(b"content")
    assert is_intact(path)
    path.write_bytes(b"contenT")
    assert is_intact(path) is False


def test_what_was_found_is_known(hub: HubServer, commit: str, tmp_path: Path) -> None:
    source = resolve("ann/m", verify=True)
    assert source.find("other") is None and source.get(SMALL) == source.found[SMALL] and list(source.found) == [SMALL]
    (tmp_path / "x").write_text("x")
    folder = Source("x", folder=tmp_path)
    assert folder.find("x") == folder.found["x"]
