"""Registries: names are unique, a miss suggests, and nobody keeps a list."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from hezar_like import ModelConfig, build_model, list_available_models
from hezar_like.errors import ConfigError, RegistryError
from hezar_like.models import BertConfig, BertTextClassificationConfig, Model, RobertaConfig
from hezar_like.registry import (
    Registered,
    Registry,
    families_registry,
    models_registry,
    preprocessors_registry,
    register_model,
    tasks_registry,
)

pytestmark = pytest.mark.usefixtures("own_registrations")


@dataclass
class MineConfig(ModelConfig):
    name = "mine_of_a_test"
    size: int = 3


def mine() -> type[Model]:
    class Mine(Model):
        """My own.

        And more about it.
        """

    return Mine


def test_own_model() -> None:
    cls = register_model("mine_of_a_test", MineConfig)(mine())
    entry = models_registry["mine_of_a_test"]
    assert (entry.module_class, entry.config_class, entry.description) == (cls, MineConfig, "My own.")
    assert entry.where.rpartition(":")[0] == __file__ and entry.where.rpartition(":")[2].isdigit()
    assert "mine_of_a_test" in list_available_models() and "mine_of_a_test" in models_registry
    assert isinstance(build_model("mine_of_a_test", size=4), cls)


def test_defining_it_again_replaces_it() -> None:
    register_model("mine_of_a_test", MineConfig)(mine())
    again = register_model("mine_of_a_test", MineConfig, "again")(mine())
    assert models_registry["mine_of_a_test"].module_class is again


def test_a_taken_name() -> None:
    register_model("mine_of_a_test", MineConfig)(mine())

    class Other(Model):
        """Another."""

    with pytest.raises(RegistryError) as error:
        register_model("mine_of_a_test", MineConfig)(Other)
    assert "'mine_of_a_test' is taken" in str(error.value) and __file__ in str(error.value)
    assert models_registry["mine_of_a_test"].module_class is not Other


@pytest.mark.parametrize("name", ["bert", "bert_text_classification", "roberta_ner", "xlm_roberta_fill_mask"])
def test_built_in_names_are_taken(name: str) -> None:
    config = dataclass(type("TakenConfig", (ModelConfig,), {"name": name}))
    with pytest.raises(RegistryError, match=f"{name}' is taken: it is defined at .*models/"):
        register_model(name, config)(mine())


def test_the_config_must_have_the_name() -> None:
    with pytest.raises(RegistryError, match=r"MineConfig.name is 'mine_of_a_test', but it is registered as 'other'"):
        register_model("other", MineConfig)


def test_every_name_resolves_to_itself() -> None:
    for registry in (models_registry, families_registry, tasks_registry, preprocessors_registry):
        assert len(registry) == len(list(registry)) and list(registry) == sorted(registry)
        for name, entry in registry.items():
            assert entry.name == name == entry.config_class.name or registry is tasks_registry
            assert entry.description and ":" in entry.where


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("bert_ner", "bert_sequence_labeling"), ("bert_pos", "bert_sequence_labeling"), ("bert_backbone", "bert"),
        ("bert_fill_mask", "bert_mask_filling"), ("xlm_roberta", "roberta"), ("bert_masklm", "bert_mask_filling"),
        ("xlm_roberta_sequence_classification", "roberta_text_classification"),
    ],
)  # fmt: skip
def test_aliases(alias: str, name: str) -> None:
    assert models_registry[alias] is models_registry[name]
    assert alias in models_registry and alias not in list(models_registry)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("brt", "bert"), ("bert_text_clasification", "bert_text_classification"), ("robberta", "roberta"),
        ("BERT", "Known"), ("", "Known"), ("text_classification", "text_classification"), ("bert_", "bert"),
        ("_text_classification", "text_classification"), ("bert_bert", "bert"), ("a" * 10**6, "Known"),
    ],
)  # fmt: skip
def test_a_miss_suggests(name: str, near: str) -> None:
    with pytest.raises(RegistryError) as error:
        models_registry[name]
    text = str(error.value)
    assert text.startswith(f"unknown model {name[:200]!r}") and near in text and len(text) < 700
    assert name not in models_registry and models_registry.get(name) is None


@pytest.mark.parametrize("name", [None, 5, ("bert",), b"bert"])
def test_names_that_are_no_text(name: Any) -> None:
    assert name not in models_registry
    with pytest.raises(RegistryError):
        models_registry[name]


def test_registries_are_read_only() -> None:
    with pytest.raises(TypeError):
        models_registry["x"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        del models_registry["bert"]  # type: ignore[attr-defined]


def test_a_task_without_a_head() -> None:
    with pytest.raises(RegistryError, match=r"unknown (task|model)|has no head"):
        models_registry.compose("bert", "text_detection")


def test_plugins_are_loaded_once_and_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    class Plugin:
        def load(self) -> None:
            loaded.append(1)
            registry.add(Registered("theirs", object, ModelConfig))

    class Installed:
        def select(self, group: str) -> list[Plugin]:
            return [Plugin()] if group == "a.group" else []

    monkeypatch.setattr("hezar_like.registry._installed", Installed)
    registry = Registry("thing", plugins="a.group")
    registry.add(Registered("ours", object, ModelConfig))
    assert registry["ours"].name == "ours" and not loaded
    assert registry["theirs"].name == "theirs"
    assert list(registry) == ["ours", "theirs"] and loaded == [1]


def test_modules_of_a_package_register_what_they_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    package = ModuleType("package_of_a_test")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "package_of_a_test", package)
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            "import sys\nfrom hezar_like.registry import Registered\nfrom hezar_like.configs import ModelConfig\n"
            f"sys.modules['package_of_a_test'].registry.add(Registered({name!r}, object, ModelConfig))\n"
        )
        monkeypatch.delitem(sys.modules, f"package_of_a_test.{name}", raising=False)
    registry = package.registry = Registry("thing", "package_of_a_test")  # type: ignore[attr-defined]
    assert registry["two"].name == "two" and "package_of_a_test.one" not in sys.modules
    assert list(registry) == ["one", "two"]


# -- building ---------------------------------------------------------------------------------------------------------

TINY = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def test_a_familys_config_is_enough_for_its_tasks() -> None:
    config = BertConfig(**TINY)
    model = build_model("bert_text_classification", config, num_labels=3, hidden_act="relu")
    assert type(model.config) is BertTextClassificationConfig
    assert (model.config.hidden_size, model.config.num_labels, model.config.hidden_act) == (8, 3, "relu")
    assert config.hidden_act == "gelu"


def test_two_models_share_no_config() -> None:
    config = BertConfig(**TINY)
    one, two = build_model("bert", config), build_model("bert", config)
    one.config.hidden_dropout_prob = 0.7
    assert two.config.hidden_dropout_prob == config.hidden_dropout_prob == 0.1


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("roberta", BertConfig), ("bert", RobertaConfig), ("bert", BertTextClassificationConfig),
        ("roberta_text_classification", BertTextClassificationConfig), ("bert", MineConfig),
        ("bert_mask_filling", BertTextClassificationConfig), ("bert_text_classification", RobertaConfig),
    ],
)  # fmt: skip
def test_a_config_of_another_model(name: str, config: type[ModelConfig]) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(name, config())
    assert repr(name) in str(error.value) and config.__name__ in str(error.value)


@pytest.mark.parametrize("config", [{"hidden_size": 8}, "bert", 5])
def test_what_is_no_config(config: Any) -> None:
    with pytest.raises(ConfigError, match="'bert' is built from a BertConfig, but the config is a"):
        build_model("bert", config)


@pytest.mark.parametrize("key", ["task", "config_type", "_private", "self"])
def test_kwargs_that_are_no_fields(key: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        build_model("bert", **TINY, **{key: "mask_filling"})


@dataclass
class BiggerBertConfig(BertConfig):
    name = "bigger_bert_of_a_test"
    extra: int = 3


def test_an_own_model_on_a_familys_config(tmp_path: Any) -> None:
    import torch

    @register_model("bigger_bert_of_a_test", BiggerBertConfig)
    class BiggerBert(Model):
        """Takes over the fields of BERT, and is no BERT."""

        def __init__(self, config: BiggerBertConfig) -> None:
            super().__init__(config)
            self.layer = torch.nn.Linear(self.config.extra, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    assert BertConfig.family == "bert" and BiggerBertConfig.family == ""
    model = build_model("bigger_bert_of_a_test", hidden_size=24, extra=5).eval()
    model.save(tmp_path)
    loaded = Model.load(tmp_path, device="cpu")
    assert type(loaded) is BiggerBert and loaded.config == model.config
    x = torch.randn(2, 5)
    assert torch.equal(torch.stack(loaded.predict(x)), torch.stack(model.predict(x)))
