"""The code of Hezar's guide on models, as written there, with `hezar_like` for `hezar`.

Its lines on Whisper are left out until there is a Whisper.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import hezar_like
from hezar_like import constants
from hezar_like.models import Model

SAMPLE_NET = """
from dataclasses import dataclass

import torch
import torch.nn as nn
from hezar_like.models import Model, ModelConfig, register_model

@dataclass
class SampleNetConfig(ModelConfig):
    name = "sample_net"
    num_channels: int = 3
    num_classes: int = 10

@register_model("sample_net", config_class=SampleNetConfig, description="My simple CNN network")
class SampleNet(Model):
    def __init__(self, config: SampleNetConfig):
        super().__init__(config=config)
        self.conv1 = nn.Conv2d(self.config.num_channels, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, self.config.num_classes)

    def forward(self, x):
        x = self.pool(nn.functional.relu(self.conv1(x)))
        x = self.pool(nn.functional.relu(self.conv2(x)))
        x = torch.flatten(x, 1) # flatten all dimensions except batch
        x = nn.functional.relu(self.fc1(x))
        x = nn.functional.relu(self.fc2(x))
        x = self.fc3(x)
        return x
"""

# The guide leaves the model's layers and the first lines of __init__ out; they are filled in.
TEXT_MODEL = """
from dataclasses import dataclass, field
from typing import Dict

import torch
from hezar_like.models import Model, ModelConfig, register_model


@dataclass
class TextClassificationConfig(ModelConfig):
    name = "my_text_classification"
    vocab_size: int = 300
    id2label: Dict[int, str] = field(default_factory=lambda: {0: "negative", 1: "positive"})


@register_model("my_text_classification", config_class=TextClassificationConfig)
class TextClassificationModel(Model):
    def __init__(self, config):
        super().__init__(config=config)
        self.embedding = torch.nn.EmbeddingBag(self.config.vocab_size, len(self.config.id2label), padding_idx=1)

    def forward(self, inputs):
        return {"logits": self.embedding(inputs["token_ids"])}

    def preprocess(self, raw_texts):
        tokenizer = self.preprocessor["bpe_tokenizer"]
        model_inputs = tokenizer(raw_texts, return_tensors="pt")
        return model_inputs

    def post_process(self, model_outputs):
        logits = model_outputs["logits"]
        label_ids = logits.argmax(1)
        labels_str = [self.config.id2label[label_id] for label_id in label_ids]
        return labels_str
"""

OPTIONS_MODEL = """
from dataclasses import dataclass

import torch
from hezar_like.models import Model, ModelConfig, register_model


@dataclass
class WithOptionsConfig(ModelConfig):
    name = "with_options"


@register_model("with_options", config_class=WithOptionsConfig)
class WithOptions(Model):
    def preprocess(self, raw_inputs, return_attention_mask=False):
        self.preprocessed = raw_inputs, return_attention_mask
        return {"x": torch.tensor([float(len(text)) for text in raw_inputs])}

    def forward(self, x):
        return x

    def post_process(self, model_inputs, output_all_scores=False):
        return [{"scores": float(x), "all": output_all_scores} for x in model_inputs]
"""


def module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> Iterator[ModuleType]:
    """A user's own file, imported; forgotten afterwards."""
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    del sys.modules[name]


@pytest.fixture
def my_net(own_registrations: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module_of(tmp_path, monkeypatch, "my_net", SAMPLE_NET)


@pytest.fixture
def my_text_model(own_registrations: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module_of(tmp_path, monkeypatch, "my_text_model", TEXT_MODEL)


@pytest.fixture
def with_options(own_registrations: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module_of(tmp_path, monkeypatch, "with_options", OPTIONS_MODEL)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizer = hezar_like.build_preprocessor("bpe_tokenizer", vocab_size=300, show_progress=False)
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 3)
    return tokenizer


def in_a_new_process(code: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# -- Building Models --------------------------------------------------------------------------------------------------


def test_the_sample_net_is_a_torch_module_that_predicts(my_net: ModuleType) -> None:
    model = hezar_like.build_model("sample_net")
    assert isinstance(model, my_net.SampleNet) and isinstance(model, torch.nn.Module)
    images = torch.randn(4, 3, 32, 32)
    model.eval()
    with torch.inference_mode():
        expected = model(images)
    assert expected.shape == (4, 10)
    for inputs in (images, list(images), (image for image in images)):
        results = model.predict(inputs)
        assert len(results) == 4
        torch.testing.assert_close(torch.stack(results), expected)
    assert model.predict([]) == []


def test_the_config_of_the_sample_net(my_net: ModuleType) -> None:
    config = my_net.SampleNetConfig(num_classes=5)
    assert (config.name, config.config_type, config.num_channels, config.num_classes) == ("sample_net", "model", 3, 5)
    assert my_net.SampleNetConfig(3, 7).num_classes == 7
    model = my_net.SampleNet(config)
    assert model.fc3.out_features == 5 and model.config == config and model.config is not config
    assert hezar_like.build_model("sample_net", num_channels=1).conv1.in_channels == 1
    assert hezar_like.build_model("sample_net", config, num_channels=1).config.num_classes == 5
    assert config.num_channels == 3  # untouched
    with pytest.raises(hezar_like.errors.ConfigError, match=r"unknown key 'num_clases'. Did you mean 'num_classes'"):
        hezar_like.build_model("sample_net", num_clases=5)
    with pytest.raises(hezar_like.errors.ConfigError, match=r"SampleNetConfig.num_classes is '5'"):
        hezar_like.build_model("sample_net", num_classes="5")


def test_the_sample_net_comes_back_in_another_process(my_net: ModuleType, tmp_path: Path) -> None:
    model = hezar_like.build_model("sample_net", num_classes=3).eval()
    model.save(tmp_path / "saved")
    images = torch.randn(2, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    torch.save(torch.stack(model.predict(images)), tmp_path / "results.pt")
    out = in_a_new_process(
        """
        import torch
        import my_net
        from hezar_like.models import Model

        model = Model.load("saved", device="cpu")
        assert type(model) is my_net.SampleNet and model.config.num_classes == 3 and not model.training
        results = torch.stack(model.predict(torch.load("images.pt")))
        assert torch.equal(results, torch.load("results.pt"))
        assert torch.equal(torch.stack(my_net.SampleNet.load("saved", device="cpu").predict(torch.load("images.pt"))), results)
        print("equal")
        """,
        tmp_path,
    )
    assert out == "equal\n"
    files = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert files == ["model.safetensors", "model_config.yaml"]


def test_without_the_file_that_defines_it_the_error_says_so(my_net: ModuleType, tmp_path: Path) -> None:
    hezar_like.build_model("sample_net").save(tmp_path / "saved")
    out = in_a_new_process(
        """
        from hezar_like.errors import RegistryError
        from hezar_like.models import Model

        try:
            Model.load("saved")
        except RegistryError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "unknown model 'sample_net'" in out


# -- Models Registry System -------------------------------------------------------------------------------------------


def test_listing_models() -> None:
    from hezar_like.utils import list_available_models

    assert {"bert", "bert_text_classification", "roberta_mask_filling"} <= set(list_available_models())
    assert hezar_like.list_available_models() == list_available_models()


def test_the_registry_is_a_mapping(my_net: ModuleType) -> None:
    from hezar_like.registry import models_registry

    bert = models_registry["bert"].module_class(models_registry["bert"].config_class())
    assert bert.config.hidden_size == 768 and "bert" in models_registry
    assert models_registry["sample_net"].module_class is my_net.SampleNet
    assert models_registry["sample_net"].config_class is my_net.SampleNetConfig
    assert models_registry["sample_net"].description == "My simple CNN network"
    assert "sample_net" in list(models_registry.keys()) and len(models_registry) == len(models_registry.items())


def test_building_by_name() -> None:
    from hezar_like.builders import build_model

    bert = build_model("bert")
    assert bert.num_parameters == 109_482_240  # as published
    assert {parameter.dtype for parameter in bert.parameters()} == {torch.float32}


def test_building_with_kwargs() -> None:
    from hezar_like.builders import build_model

    bert = build_model("bert", hidden_size=768, num_hidden_layers=1)
    assert bert.config.hidden_size == 768


def test_building_from_a_config() -> None:
    from hezar_like.builders import build_model
    from hezar_like.models import BERTConfig, BertConfig

    assert BERTConfig is BertConfig
    bert = build_model("bert", BERTConfig(hidden_act="gelu", hidden_size=840))
    assert bert.config.hidden_size == 840 and bert.config.num_hidden_layers == 12


# -- Inference & Prediction -------------------------------------------------------------------------------------------


def test_a_text_model_of_ones_own(my_text_model: ModuleType, tokenizer: Any, tmp_path: Path) -> None:
    model = hezar_like.build_model("my_text_classification").eval()
    model.preprocessor = tokenizer
    texts = ["the quick fox", "the dog", "lazy"]
    inputs = tokenizer(texts, return_tensors="pt")
    assert isinstance(inputs["token_ids"], torch.Tensor) and inputs["token_ids"].shape[0] == 3
    with torch.inference_mode():
        expected = [["negative", "positive"][i] for i in model(inputs)["logits"].argmax(1)]
    assert model.predict(texts) == expected
    assert model.predict("the dog") == expected[1:2]
    model.save(tmp_path)
    assert Model.load(tmp_path, device="cpu").predict(texts) == expected


def test_printing_the_preprocessors(my_text_model: ModuleType, tokenizer: Any) -> None:
    model = hezar_like.build_model("my_text_classification")
    assert str(model.preprocessor) == "PreprocessorsContainer([])"
    model.preprocessor = {
        "bpe_tokenizer": tokenizer,
        "text_normalizer": hezar_like.build_preprocessor("text_normalizer"),
    }
    shown = str(model.preprocessor)
    assert shown.startswith("PreprocessorsContainer([('bpe_tokenizer', <BPETokenizer") and "TextNormalizer" in shown
    assert list(model.preprocessor) == ["bpe_tokenizer", "text_normalizer"]
    assert model.preprocessor["bpe_tokenizer"] is model.preprocessor.bpe_tokenizer is model.preprocessor.tokenizer


def test_a_preprocessor_can_be_set_directly(my_text_model: ModuleType, tokenizer: Any) -> None:
    model = hezar_like.build_model("my_text_classification")
    for value in (tokenizer, [tokenizer], {"bpe_tokenizer": tokenizer}):
        model.preprocessor = value
        assert model.preprocessor["bpe_tokenizer"] is tokenizer
    model.preprocessor = None
    assert not model.preprocessor


def test_kwargs_find_their_method(with_options: ModuleType) -> None:
    model = hezar_like.build_model("with_options")
    raw_inputs = ["a", "bcd"]
    results = model.predict(raw_inputs, return_attention_mask=True, output_all_scores=True)
    assert results == [{"scores": 1.0, "all": True}, {"scores": 3.0, "all": True}]
    assert model.preprocessed == (raw_inputs, True)
    assert model.predict(raw_inputs) == [{"scores": 1.0, "all": False}, {"scores": 3.0, "all": False}]
    assert model.preprocessed == (raw_inputs, False)
    with pytest.raises(TypeError, match=r"no option 'output_all_score'. Did you mean 'output_all_scores'"):
        model.predict(raw_inputs, output_all_score=True)


# -- Saving, Loading & Pushing to Hub ---------------------------------------------------------------------------------


PARAMETERS = {
    "load": [
        "hub_or_local_path", "load_locally", "load_preprocessor", "model_filename", "config_filename", "save_path",
    ],
    "save": ["path", "filename", "save_preprocessor", "config_filename"],
    "push_to_hub": ["repo_id", "filename", "config_filename", "push_preprocessor", "commit_message", "private"],
}  # fmt: skip


@pytest.mark.parametrize("method", PARAMETERS)
def test_parameters_of_the_guide(method: str) -> None:
    parameters = inspect.signature(getattr(Model, method)).parameters
    names = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and name != "self"]
    assert names == PARAMETERS[method]
    if method == "load":
        assert parameters["load_preprocessor"].default is True
        assert parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD


def test_loading_saving_and_pushing(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's snippet on Whisper, with a tiny BERT."""
    from comparing import assert_same_predictions
    from tiny_models import tiny_model

    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.chdir(tmp_path)
    tiny = tiny_model("bert_text_classification")
    tiny.push_to_hub("ann/tiny-bert")

    bert = Model.load("ann/tiny-bert", device="cpu")
    bert.save("my-bert")
    bert_2 = Model.load("my-bert", device="cpu")
    bert_2.push_to_hub("ann/tiny-bert-fa", commit_message="mine", private=True, push_preprocessor=False)
    bert_3 = Model.load("ann/tiny-bert-fa", device="cpu", load_preprocessor=False, save_path="copy")

    expected = tiny.predict("the cat")
    for same in (bert, bert_2):
        assert_same_predictions(same.predict("the cat"), expected)
    assert not bert_3.preprocessor and (tmp_path / "copy" / "model.safetensors").is_file()
    bert_3.preprocessor = tiny.preprocessor
    assert_same_predictions(bert_3.predict("the cat"), expected)
    assert hub.repo("ann/tiny-bert-fa").private
    posts = [entry for entry in hub.log if "/commit/" in str(entry)]
    assert len(posts) == 2  # one commit for each push


def test_every_parameter_has_its_effect(tmp_path: Path) -> None:
    from tiny_models import tiny_model

    tiny = tiny_model("bert_text_classification")
    tiny.save(tmp_path, filename="weights.safetensors", config_filename="my_config.yaml", save_preprocessor=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_config.yaml", "weights.safetensors"]
    names = {"model_filename": "weights.safetensors", "config_filename": "my_config.yaml"}
    model = Model.load(str(tmp_path), load_locally=True, device="cpu", hidden_dropout_prob=0.5, **names)
    assert model.config.hidden_dropout_prob == 0.5 and model.config.num_labels == tiny.config.num_labels
    tiny.save(tmp_path / "old", filename="model.pt")
    assert Model.load(tmp_path / "old", device="cpu").num_parameters == tiny.num_parameters


def test_a_backbone_starts_a_model_for_fine_tuning(caplog: pytest.LogCaptureFixture) -> None:
    from tiny_models import tiny_model

    backbone, model = tiny_model("distilbert"), tiny_model("distilbert_text_classification")
    head = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("head.")}
    with caplog.at_level(logging.WARNING, "hezar_like"):
        result = model.load_state_dict(backbone.state_dict())
    (record,) = caplog.records
    assert record.name == "hezar_like" and record.levelname == "WARNING"
    assert record.getMessage() == (
        "Partially loading the weights as the model architecture and the given state dict are incompatible!\n"
        "Ignore this warning in case you plan on fine-tuning this model\n"
        f"Incompatible keys: []\nMissing keys: {sorted(head, key=list(model.state_dict()).index)}"
    )
    assert result.missing_keys == list(head) and result.unexpected_keys == []
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in head.items())


@pytest.mark.parametrize("name", ["bert_mask_filling", "distilbert_text_classification"])
def test_a_state_dict_of_the_same_model_needs_no_warning(
    name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from safetensors.torch import load_file
    from tiny_models import tiny_model

    model = tiny_model(name)
    model.save(tmp_path)
    for state in (model.state_dict(), load_file(tmp_path / "model.safetensors")):
        model.load_state_dict(state)
    assert not caplog.records


# -- Module paths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("builders", ["build_model", "build_preprocessor", "build_dataset", "build_metric", "build_embedding"]),
        (
            "configs",
            ["Config", "ModelConfig", "PreprocessorConfig", "DatasetConfig", "MetricConfig", "EmbeddingConfig"],
        ),
        ("constants", ["ConfigType", "DEFAULT_MODEL_FILE", "DEFAULT_MODEL_CONFIG_FILE"]),
        ("models", ["Model", "ModelConfig", "register_model", "build_model", "BERTConfig", "BERTTextClassification"]),
        ("preprocessors", ["Preprocessor", "Tokenizer", "BPETokenizer", "PreprocessorsContainer", "TextNormalizer"]),
        ("registry", ["models_registry", "preprocessors_registry", "register_model", "register_preprocessor"]),
        ("utils", ["list_available_models", "get_module_class", "get_module_config_class", "set_seed"]),
    ],
)
def test_module_paths_of_hezar(module: str, names: list[str]) -> None:
    found = importlib.import_module(f"hezar_like.{module}")
    assert not [name for name in names if not hasattr(found, name)]


def test_constants_say_what_is_true() -> None:
    from hezar_like.configs import REGISTRIES, DatasetConfig, EmbeddingConfig, ModelConfig
    from hezar_like.preprocessors import Preprocessor, TextNormalizer, Tokenizer
    from hezar_like.utils import get_module_class

    assert Model.model_filename == constants.DEFAULT_MODEL_FILE
    assert constants.DEFAULT_MODEL_CONFIG_FILE == Model.config_filename == ModelConfig.default_filename
    assert DatasetConfig.default_filename == constants.DEFAULT_DATASET_CONFIG_FILE
    assert EmbeddingConfig.default_filename == constants.DEFAULT_EMBEDDING_CONFIG_FILE
    assert Tokenizer.tokenizer_filename == constants.DEFAULT_TOKENIZER_FILE
    assert Tokenizer.config_filename == constants.DEFAULT_TOKENIZER_CONFIG_FILE
    assert TextNormalizer.config_filename == constants.DEFAULT_NORMALIZER_CONFIG_FILE
    assert Preprocessor.subfolder == constants.DEFAULT_PREPROCESSOR_SUBFOLDER
    assert set(constants.RegistryType) == set(REGISTRIES)
    assert set(constants.ConfigType) == {"base", *REGISTRIES}
    assert get_module_class("bert", constants.RegistryType.MODEL).task == "backbone"
