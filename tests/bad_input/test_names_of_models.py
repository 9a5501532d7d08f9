"""Row 47: what is neither a folder nor a repository, and folders that hold no model. No request is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hezar_like import Model, Preprocessor
from hezar_like.errors import CheckpointError, HubError


@pytest.mark.parametrize("name", ["a/b/c", "../x", "./x", "/no/such/folder", "~/no-such-folder", "modell/", "C:\\x"])
def test_row_47_paths_that_do_not_exist(name: str, refused: Any, folder: Path) -> None:
    for load in (Model.load, Preprocessor.load):
        with refused(HubError, repr(name)):
            load(name)


@pytest.mark.parametrize("name", ["a b", "-x/y", "x--y", "x..y", "x/y.git", "سلام", "x" * 200, "x\0y", "a\nb"])
def test_row_47_names_that_no_repository_can_have(name: str, refused: Any, folder: Path) -> None:
    with refused(HubError, "neither a folder that exists nor a Hub id", "check the spelling"):
        Model.load(name)


@pytest.mark.parametrize("name", ["", " "])
def test_row_47_empty(name: str, refused: Any, folder: Path) -> None:
    with refused(HubError, "empty"):
        Model.load(name)


@pytest.mark.parametrize("value", [None, 5, ["model"]])
def test_row_47_no_name_at_all(value: Any, folder: Path) -> None:
    with pytest.raises(TypeError):
        Model.load(value)


def test_row_47_a_folder_without_a_model(refused: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with refused(CheckpointError, str(tmp_path / "nothing"), "model_config.yaml", "config.json"):
        Model.load(tmp_path / "nothing")


def test_row_47_a_file(refused: Any, folder: Path) -> None:
    with refused(HubError, "is a file", repr(str(folder))):
        Model.load(folder / "model.safetensors")


def test_row_47_a_near_miss_is_suggested(refused: Any, folder: Path) -> None:
    with refused(HubError, "modle", "Did you mean 'model'"):
        Model.load("./modle")


def test_row_47_local_only(refused: Any, folder: Path) -> None:
    with refused(HubError, "'org/name'", "load_locally"):
        Model.load("org/name", load_locally=True)


def test_row_47_a_folder_wins_over_a_repository(folder: Path) -> None:
    assert Model.load("model", device="cpu").config.num_labels == 3


@pytest.mark.parametrize("option", [{"model_filename": "other.safetensors"}, {"config_filename": "other.yaml"}])
def test_files_that_are_not_there(option: dict[str, str], refused: Any, folder: Path, load: Any) -> None:
    with refused(CheckpointError, next(iter(option.values()))):
        load(**option)


@pytest.mark.parametrize("option", ["model_filename", "config_filename"])
@pytest.mark.parametrize("name", ["../model/model.safetensors", "/etc/passwd", "a\\b", "C:x"])
def test_files_outside_the_folder(option: str, name: str, refused: Any, folder: Path, load: Any) -> None:
    with refused(CheckpointError, "inside the model folder", repr(f"{name}.yaml")):
        load(**{option: f"{name}.yaml"})
