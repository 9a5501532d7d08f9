"""Large files by Xet, with the real hf_xet; and what happens where the Hub offers it and it does not work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _xet
from xet_hub import TOKEN, XetHub

from hezar_like import Model, build_model
from hezar_like.cli import main
from hezar_like.errors import HubError
from hezar_like.hub import push, resolve
from hezar_like.preprocessors import WordPieceConfig, WordPieceTokenizer

USERS = {"hf_write": {"name": "ann", "orgs": [], "role": "write"}}
WEIGHTS, CONFIG = "model.safetensors", "model_config.yaml"
FILES = {WEIGHTS: bytes(range(256)) * 1000, "other.safetensors": b"other" * 999, CONFIG: b"name: bert\n"}
STORAGES = ["closed", "elsewhere", "strange", "empty"]
TOKEN_FAULTS: dict[str, dict[str, Any]] = {
    **{str(status): {"status": status} for status in (401, 403, 404, 500, 503)}, "drop": {"drop": True},
    "cut": {"cut_after": 1}, "corrupt": {"corrupt": True},
    "no headers": {"drop_headers": ["X-Xet-Cas-Url"]},
}  # fmt: skip


@pytest.fixture(autouse=True)
def hub(hub_environment: Path, pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[XetHub]:
    for name, value in {"MAX_ATTEMPTS": "1", "BASE_DELAY": "1ms"}.items():
        monkeypatch.setenv(f"HF_XET_CLIENT_RETRY_{name}", value)
    monkeypatch.delenv("HF_HUB_DISABLE_XET")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    _xet.abort_xet_session()  # the next one reads the settings
    with XetHub(tmp_path / "storage", tokens=USERS) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    _xet.abort_xet_session()
    _xet.XET_CONNECTION_INFO_CACHE.clear()


def send(repo_id: str = "ann/m", **options: Any) -> str:
    return push(repo_id, FILES, commit_message="save", **options)


def get(repo_id: str = "ann/m", **options: Any) -> dict[str, bytes]:
    source = resolve(repo_id, **options)
    return {name: source.get(name).read_bytes() for name in FILES}


def spoil(hub: XetHub, storage: str) -> None:
    """Lets the Hub name a storage that does not work."""
    places = {"closed": "http://127.0.0.1:9", "elsewhere": hub.cdn_url, "strange": "ftp://x", "empty": f"local://{hub.folder}2"}
    hub.storage = places[storage]


def leftovers() -> list[Path]:
    return list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))


def test_a_model_there_and_back(hub: XetHub) -> None:
    tokenizer = WordPieceTokenizer(WordPieceConfig(vocab_size=60, show_progress=False))
    tokenizer.train_from_iterator(["a small text"] * 3)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = build_model("bert_text_classification", vocab_size=len(tokenizer), id2label={0: "a", 1: "b"}, **sizes)
    model.preprocessor = tokenizer
    address = model.push_to_hub("ann/m")
    assert Model.load("ann/m", device="cpu").predict("a small text") == model.predict("a small text")
    assert model.push_to_hub("ann/m") == address
    assert len(hub.requests("POST", "/commit/")) == 1 and len(hub.xet_hashes) == 1
    assert len(hub.requests(path="/xet-write-token/")) == len(hub.requests(path="/xet-read-token/")) == 1
    assert not hub.requests(path="/batch|/cdn/|/lfs-upload/")


def test_branches_and_pull_requests(hub: XetHub) -> None:
    send(revision="dev")
    assert get(revision="dev") == FILES and hub.files("ann/m") == set()
    assert send(create_pr=True).endswith("/discussions/1") and get(revision="refs/pr/1") == FILES
    assert not hub.requests(path="/batch|/cdn/|/lfs-upload/")


@pytest.mark.parametrize("storage", STORAGES)
def test_a_storage_that_gives_nothing(hub: XetHub, storage: str, caplog: pytest.LogCaptureFixture) -> None:
    send()
    spoil(hub, storage)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        assert get() == FILES
    assert len(caplog.records) == 1 and "plain HTTP" in caplog.text and "hf_write" not in caplog.text
    assert len(hub.requests(path="/cdn/")) == 2 and not leftovers()
    assert main(["cache", "verify"]) == 0


@pytest.mark.parametrize("storage", [name for name in STORAGES if name != "empty"])  # hf_xet would fill that
def test_a_storage_that_takes_nothing(hub: XetHub, storage: str, caplog: pytest.LogCaptureFixture) -> None:
    spoil(hub, storage)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        send()
    assert len(caplog.records) == 1 and "plain HTTP" in caplog.text
    assert len(hub.requests("POST", "/commit/")) == 1 and {name: hub.read("ann/m", name) for name in FILES} == FILES
    assert get() == FILES


def test_the_token_of_the_hub_is_not_for_the_storage(hub: XetHub) -> None:
    send()
    spoil(hub, "elsewhere")
    hub.clear()
    assert get() == FILES
    asked = [entry["headers"].get("authorization") for entry in hub.log if "/reconstructions/" in entry["path"]]
    assert asked and set(asked) == {f"Bearer {TOKEN}"}
    assert not any("hf_write" in str(entry["headers"]) for entry in hub.log if entry["cdn"])


@pytest.mark.parametrize("fault", TOKEN_FAULTS)
@pytest.mark.parametrize("times", [1, -1])
def test_the_hub_gives_no_token_for_the_storage(hub: XetHub, fault: str, times: int) -> None:
    hub.fault("/xet-write-token/", times=times, **TOKEN_FAULTS[fault])
    send()
    assert {name: hub.read("ann/m", name) for name in FILES} == FILES and len(hub.requests("POST", "/commit/")) == 1
    hub.faults.clear()
    hub.fault("/xet-read-token/", times=times, **TOKEN_FAULTS[fault])
    assert get() == FILES and not leftovers()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "another"])
def test_a_storage_that_lies(hub: XetHub, damage: str) -> None:
    send()
    first, *others = sorted(path for path in hub.folder.glob("xet/xorbs/xorbs/*") if path.suffix != ".tagset")
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    for path in (first, *others):
        path.chmod(0o600)
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"flipped": content, "cut": content[:100], "another": b"PK" * 1000}[damage])
    assert get() == FILES and not leftovers()


def test_another_file_than_announced(hub: XetHub, caplog: pytest.LogCaptureFixture) -> None:
    """Xet checks what it gets against its own hash; whether that is the right one only we can tell."""
    send()
    first, second = hub.xet_hashes
    (hub.folder / "copy").write_bytes(FILES[WEIGHTS][::-1])
    push("ann/reversed", {WEIGHTS: hub.folder / "copy"}, commit_message="save")
    wrong = next(xet_hash for sha256, xet_hash in hub.xet_hashes.items() if sha256 not in (first, second))
    right = dict(hub.xet_hashes)
    weights = next(sha256 for sha256 in right if hub.blob(sha256).read_bytes() == FILES[WEIGHTS])
    hub.xet_hashes = {**right, weights: wrong}
    with caplog.at_level(logging.WARNING, "hezar_like"):
        assert get() == FILES
    assert len(caplog.records) == 1 and "not what the Hub announced" in caplog.text and not leftovers()
    assert main(["cache", "verify"]) == 0


def test_neither_way_works(hub: XetHub) -> None:
    send()
    spoil(hub, "closed")
    hub.fault("/cdn/", status=503, times=-1)
    with pytest.raises(HubError, match="HTTP 503.*try again") as error:
        get()
    assert "\n" not in str(error.value) and not leftovers()
    hub.faults.clear()
    assert get() == FILES


def test_no_way_up(hub: XetHub) -> None:
    spoil(hub, "closed")
    hub.fault("/lfs-upload/", status=403, times=-1)
    with pytest.raises(HubError, match="write access"):
        send()
    assert not hub.requests("POST", "/commit/")


def test_files_that_repositories_share(hub: XetHub, capsys: pytest.CaptureFixture[str]) -> None:
    """What came by Xet lies in the cache once, however many models have it; broken, it is broken for all."""
    for repo_id in ("ann/m", "ann/n"):
        send(repo_id)
        assert get(repo_id, verify=True) == FILES
    paths = [resolve(repo_id).get(WEIGHTS) for repo_id in ("ann/m", "ann/n")]
    shared = paths[0].resolve()
    assert shared == paths[1].resolve() and shared.is_relative_to(Path(constants.HF_HUB_CACHE) / "blobs")
    shared.chmod(0o600)
    shared.write_bytes(FILES[WEIGHTS][:-1] + b"?")
    assert main(["cache", "verify"]) == 2 and capsys.readouterr().out.count("broken: 'model.safetensors'") == 2
    assert get("ann/m", verify=True) == FILES
    assert get("ann/n") == FILES  # repaired by the way
    assert main(["cache", "verify"]) == 0

    assert main(["cache", "remove", "ann/m"]) == 0 and get("ann/n", local_files_only=True) == FILES
    assert main(["cache", "remove", "ann/n"]) == 0 and not shared.exists()


def test_a_broken_file_of_another_model_is_not_taken_over(hub: XetHub) -> None:
    for repo_id in ("ann/m", "ann/n"):
        send(repo_id)
    shared = resolve("ann/m").get(WEIGHTS).resolve()
    shared.chmod(0o600)
    shared.write_bytes(FILES[WEIGHTS][:-1] + b"?")
    assert get("ann/n") == FILES


def test_without_xet(hub: XetHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    send()
    hub.take_in()
    assert get() == FILES and not hub.requests(path="/xet-") and not hub.folder.exists()
