"""What is saved comes back: tensors, config, predictions, for every registered model."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from comparing import assert_same_config, assert_same_predictions, assert_same_tensors
from tiny_models import built_in, text_models, texts_for, tiny_model

from hezar_like import Model, build_model
from hezar_like.files import stage
from hezar_like.formats.weights import save_weights
from hezar_like.loading import unique_tensors
from hezar_like.registry import models_registry
from hezar_like.text_files import read_yaml

WEIGHT_FILES = ["model.pt", "weights.safetensors", "pytorch_model.bin"]


@pytest.fixture(params=built_in())
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


def assert_same_model(ours: Model, theirs: Model) -> None:
    assert type(ours) is type(theirs)
    assert_same_config(ours.config, theirs.config)
    assert_same_tensors(ours.state_dict(), theirs.state_dict())
    assert ours.num_parameters == theirs.num_parameters  # tied weights are one again
    if ours.config.name in text_models():
        texts = texts_for(theirs)
        assert_same_predictions(ours.predict(texts), theirs.predict(texts))


def files_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_save_and_load(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = Model.load(tmp_path, device="cpu")
    assert_same_model(loaded, model)
    assert not loaded.training and loaded.source is not None


def test_saving_what_was_loaded_gives_equal_files(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "first")
    Model.load(tmp_path / "first", device="cpu", save_path=tmp_path / "second")
    files = files_of(tmp_path / "first")
    assert files_of(tmp_path / "second") == files
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


@pytest.mark.parametrize("filename", WEIGHT_FILES)
def test_names_of_files_can_be_chosen(filename: str, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path, filename, config_filename="my_config.yaml")
    assert {path.name for path in tmp_path.iterdir()} <= {filename, "my_config.yaml", "preprocessor"}
    loaded = Model.load(tmp_path, device="cpu", model_filename=filename, config_filename="my_config.yaml")
    assert_same_model(loaded, model)


def test_model_pt_needs_no_name(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path, "model.pt")
    assert_same_model(Model.load(tmp_path, device="cpu"), model)


def test_shards(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with stage(tmp_path) as staged:
        files = save_weights(unique_tensors(model), staged, max_shard_bytes=20_000)
    assert len(files) > 2
    assert_same_model(Model.load(tmp_path, device="cpu"), model)


def test_saving_over_shards_leaves_none(model: Model, tmp_path: Path) -> None:
    with stage(tmp_path) as staged:
        save_weights({str(number): torch.ones(1000) for number in range(4)}, staged, max_shard_bytes=4000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    model.save(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]
    assert_same_model(Model.load(tmp_path, device="cpu"), model)


def test_without_preprocessor(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path, save_preprocessor=False)
    loaded = Model.load(tmp_path, device="cpu")
    assert not (tmp_path / "preprocessor").exists() and not loaded.preprocessor
    loaded.preprocessor = model.preprocessor
    assert_same_model(loaded, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_of_weights_stay(dtype: torch.dtype, model: Model, tmp_path: Path) -> None:
    model.to(dtype).save(tmp_path)
    loaded = Model.load(tmp_path, device="cpu")
    assert loaded.dtype == dtype
    assert_same_model(loaded, model)
    assert Model.load(tmp_path, device="cpu", dtype="float32").dtype == torch.float32


def test_copies(model: Model) -> None:
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same_model(other, model)
        assert other.config is not model.config
    for config in (copy.deepcopy(model.config), pickle.loads(pickle.dumps(model.config))):
        assert_same_config(config, model.config)
        assert config is not model.config


def test_a_copy_shares_nothing(model: Model) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert_same_tensors(model.state_dict(), before)


def test_config_by_its_own_file(model: Model, tmp_path: Path) -> None:
    model.config.save(tmp_path)
    assert_same_config(models_registry[model.config.name].config_class.load(tmp_path), model.config)
    assert read_yaml(tmp_path / "model_config.yaml")["name"] == model.config.name


def test_the_models_config_is_its_own(model: Model) -> None:
    config = copy.deepcopy(model.config)
    first, second = (build_model(config.name, config) for _ in range(2))
    assert first.config is not config and first.config is not second.config
    assert_same_config(first.config, config)


def test_state_dict_goes_into_a_new_model(model: Model) -> None:
    fresh = build_model(model.config.name, model.config)
    assert fresh.load_state_dict(model.state_dict()) == ([], [])
    assert_same_tensors(fresh.state_dict(), model.state_dict())
