"""Arguments of a kind that nobody means, beside the table: each ends in one error of ours that shows the value."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_model

from hezar_like import Model, ModelConfig, Preprocessor
from hezar_like.errors import HezarLikeError, HubError, InputError, OptionError


class Bytes:
    """A path that is bytes."""

    def __fspath__(self) -> bytes:
        return b"x"


NO_PATHS = [None, 5, 5.5, True, b"x", [], {}, Bytes(), object()]
BAD_PATHS = ["\0", "a\0b", "x" * 5000, "\ud800", "~nobody-of-this-name/x", "", " "]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("bert_text_classification", num_labels=3, num_hidden_layers=0)


def refused(action: Callable[[], object], kind: type[HezarLikeError] = HezarLikeError, *parts: str) -> str:
    with pytest.raises(kind) as error:
        action()
    text = str(error.value)
    assert text.isprintable() and len(text) < 700 and all(part in text for part in parts), text
    return text


@pytest.mark.parametrize("value", NO_PATHS, ids=lambda value: type(value).__name__)
def test_what_is_no_path(model: Model, value: Any, tmp_path: Path) -> None:
    for load in (Model.load, ModelConfig.load, Preprocessor.load, lambda path: Model.load(path, load_locally=True)):
        refused(lambda load=load: load(value), OptionError, type(value).__name__, "must be a text")
    for save in (model.save, model.config.save, model.preprocessor.save, lambda path: model.export("transformers", path)):
        refused(lambda save=save: save(value), OptionError, type(value).__name__, "must be a text")
    refused(lambda: model.push_to_hub(value), OptionError, type(value).__name__, "must be a text")


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path)[:20])
def test_paths_that_cannot_be(model: Model, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (model.save, model.config.save, model.preprocessor.save, lambda path: Model.load(path, load_locally=True)):
        refused(lambda use=use: use(path), HubError)
    refused(lambda: Model.load(path, local_files_only=True), HubError)
    assert list(tmp_path.iterdir()) == []


def test_links_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    Path("gone").symlink_to("nowhere")
    for name in ("circle", "gone"):
        refused(lambda name=name: Model.load(name), HubError, f"{name!r} is a link that leads nowhere")


@pytest.mark.parametrize("name", ["https://huggingface.co/org/name", "http://x/y", "hf://org/name", "https://u:secret@x/y"])
def test_addresses(name: str) -> None:
    assert "secret" not in refused(lambda: Model.load(name), HubError, "is an address; give the Hub id alone")


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "config.json", "a/../x.yaml", 5])
def test_a_config_is_not_saved_over_other_files(model: Model, name: Any, tmp_path: Path) -> None:
    refused(lambda: model.save(tmp_path / "m", config_filename=name))
    assert not (tmp_path / "m").exists() or os.listdir(tmp_path / "m") == []


def test_home_is_home(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, save in (("a", model.save), ("b", model.config.save), ("c", model.preprocessor.save)):
        save(f"~/{name}")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_an_array_without_items(model: Model) -> None:
    refused(lambda: model.predict(np.array("a")), InputError, "array('a'", "no items")


def test_a_folder_whose_name_is_not_text(model: Model, tmp_path: Path) -> None:
    """As from a file system of another time; the weights' library opens no such path."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    model.save(folder)
    refused(lambda: Model.load(folder), HezarLikeError, "not UTF-8 text; rename the folder")


def test_without_standard_error(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service, or under pythonw."""
    monkeypatch.setattr("sys.stderr", None)
    assert len(model.predict(["the cat"])) == 1


def test_a_model_without_values(model: Model, tmp_path: Path) -> None:
    empty = Model.load(model.save(tmp_path / "m"), device="meta")
    refused(lambda: empty.predict(["the cat"]), OptionError, "'meta'", "Load it on another")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that is there and cannot be read")
def test_weights_that_cannot_be_read(model: Model, tmp_path: Path) -> None:
    """As where the permissions are missing, or the disk is broken."""
    path = model.save(tmp_path / "m") / "model.safetensors"
    path.unlink()
    path.symlink_to("/proc/self/mem")
    refused(lambda: Model.load(tmp_path / "m"), HezarLikeError, "model.safetensors", "cannot be read", "check its permissions")
