"""Options that no Hub could mean something by: one error that names them, before anything is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.errors import HezarLikeError, HubError, OptionError
from hezar_like.testing import HubServer


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("bert_text_classification", num_labels=3, num_hidden_layers=0)


@pytest.fixture
def pushed(model: Model, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    model.push_to_hub("ann/m")
    hub.clear()
    return hub


def refused(action: Callable[[], object], kind: type[HezarLikeError]) -> str:
    with pytest.raises(kind) as error:
        action()
    text = str(error.value)
    assert text.isprintable() and len(text) < 700 and "cannot be reached" not in text, text
    return text


LOADS: list[tuple[str, Any, type[HezarLikeError]]] = [
    ("revision", 5, OptionError), ("revision", b"x", OptionError), ("revision", "", HubError), ("revision", "\0", HubError),
    ("revision", "a\nb", HubError), ("revision", "x" * 5000, HubError),
    ("token", 5, OptionError), ("token", b"x", OptionError), ("token", [], OptionError), ("token", "", HubError),
    ("token", "hf_x\ny", HubError), ("token", "سلام", HubError), ("token", "x" * 100_000, HubError),
    ("cache_dir", 5, OptionError), ("cache_dir", b"x", OptionError), ("cache_dir", "~nobody-of-this-name/x", HubError),
    ("cache_dir", "x" * 5000, HubError), ("cache_dir", "\0", HubError), ("cache_dir", "", HubError),
    ("local_files_only", "no", OptionError), ("verify", 1, OptionError), ("config_filename", 5, HezarLikeError),
    ("model_filename", 5, HezarLikeError), ("config_filename", "../x", HezarLikeError),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value", "kind"), LOADS, ids=lambda value: repr(value)[:20])
def test_options_of_load(pushed: HubServer, option: str, value: Any, kind: type[HezarLikeError]) -> None:
    text = refused(lambda: Model.load("ann/m", **{option: value}), kind)
    assert option != "token" or not value or str(value)[:5] not in text
    assert option.endswith("filename") or not pushed.log


PUSHES: list[tuple[str, Any, type[HezarLikeError]]] = [
    ("revision", 5, OptionError), ("revision", "a\nb", HubError), ("token", "hf_x\ny", HubError), ("token", 5, OptionError),
    ("private", "yes", OptionError), ("create_pr", "no", OptionError), ("commit_message", 5, OptionError),
    ("commit_message", " ", OptionError), ("filename", 5, HezarLikeError), ("config_filename", 5, HezarLikeError),
    ("config_filename", "README.md", HezarLikeError), ("config_filename", "model.safetensors", HezarLikeError),
    ("card", 5, OptionError), ("card", "mit", OptionError), ("card", {"base_model": "\n---\nx: y"}, OptionError),
    ("card", {"language": ["\n"]}, OptionError), ("card", {"license": "m\x1bit"}, OptionError),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value", "kind"), PUSHES, ids=lambda value: repr(value)[:20])
def test_options_of_push(pushed: HubServer, model: Model, option: str, value: Any, kind: type[HezarLikeError]) -> None:
    refused(lambda: model.push_to_hub("ann/m", **{option: value}), kind)
    assert not pushed.requests("POST", "/commit/")


def test_a_branch_may_have_any_letters(pushed: HubServer, model: Model) -> None:
    assert "no such branch" in refused(lambda: Model.load("ann/m", revision="سلام"), HubError)
    model.push_to_hub("ann/m", revision="سلام")
    assert Model.load("ann/m", revision="سلام").predict("the cat") == model.predict("the cat")
