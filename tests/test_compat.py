"""The doors with the names of FlagAI and ModelCenter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from comparing import difference

from hezar_like import Model, compat
from hezar_like.compat import TASKS, AutoLoader
from hezar_like.errors import ConfigError, HubError, OptionError, TokenizerError

FOLDERS = Path(__file__).parent / "fixtures" / "flagai_modelcenter"
OF_FLAGAI = {"bert": "bert_flagai", "glm": "glm", "gpt2": "gpt2_flagai", "t5": "t5_flagai"}
OF_MODELCENTER = {
    "Bert": "bert_mc",
    "CPM1": "cpm1",
    "CPM2": "cpm2",
    "GLM": "glm_mc",
    "GPT2": "gpt2_mc",
    "GPTj": "gptj_mc",
    "Roberta": "roberta_mc",
    "T5": "t5_mc",
}
FLAGAI_TASKS = [
    *[("bert", task) for task in TASKS if task not in ("poetry",)],
    *[(family, task) for family in ("glm", "gpt2", "t5") for task in ("lm", "seq2seq", "title-generation")],
    ("glm", "poetry"),
    ("glm", "classification"),
]


@pytest.mark.parametrize(("family", "task"), FLAGAI_TASKS, ids="-".join)
def test_auto_loader_serves_flagais_tasks(family: str, task: str) -> None:
    labels = {"class_num": 3} if TASKS[task] and ("label" in TASKS[task] or "class" in TASKS[task]) else {}
    loader = AutoLoader(task.replace("-", "_"), model_name=OF_FLAGAI[family], model_dir=FOLDERS, **labels)
    model = loader.get_model()
    assert loader.get_task_name() == task
    assert model.config.family == family
    if TASKS[task] is not None:
        assert model.task == TASKS[task]
    if "num_labels" in model.config:
        assert model.config.num_labels == 3


def test_auto_loader_prefers_the_model_trained_for_the_task(tmp_path: Path) -> None:
    base = tmp_path / "glm"
    shutil.copytree(FOLDERS / "glm", base)
    trained = Model.load(base)
    with torch.no_grad():
        trained.backbone.stack.norm.weight.fill_(7.0)
    trained.export("flagai", tmp_path / "glm-title-generation")
    weight = AutoLoader("title-generation", model_name="glm", model_dir=tmp_path).get_model().backbone.stack.norm.weight
    assert torch.equal(weight, torch.full_like(weight, 7.0))


def test_an_unknown_task_is_an_error_that_lists_all() -> None:
    with pytest.raises(OptionError) as caught:
        AutoLoader("sequence_labelling", model_name="glm", model_dir=FOLDERS)
    assert all(task in str(caught.value) for task in TASKS) and "Did you mean 'sequence-labeling'" in str(caught.value)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="GLM-large-ch"):
        compat.GLMModel.from_pretrain(download_path=tmp_path, model_name="GLM-large-ch")
    with pytest.raises(TokenizerError, match="vocabulary files"):
        AutoLoader("lm", model_name="glm", model_dir=FOLDERS).get_tokenizer()
    with pytest.raises(AttributeError, match="Did you mean 'GLMModel'"):
        _ = compat.GLMMModel
    with pytest.raises(ConfigError, match="config"):
        compat.GPT2Model.init_from_json(FOLDERS / "glm" / "config.json")


@pytest.mark.parametrize(("name", "folder"), OF_MODELCENTER.items())
def test_modelcenters_classes(name: str, folder: str) -> None:
    door, config_door = getattr(compat, name), getattr(compat, f"{name}Config")
    config = config_door.from_json_file(FOLDERS / folder / "config.json")
    assert config == config_door.from_pretrained(FOLDERS / folder)
    loaded = door.from_pretrained(FOLDERS / folder)
    built = door(config)
    assert type(built) is type(loaded)
    shapes = {name: tuple(p.shape) for name, p in loaded.named_parameters()}
    assert {name: tuple(p.shape) for name, p in built.named_parameters()}.items() <= shapes.items()
    smaller = config_door.from_json_file(FOLDERS / folder / "config.json", vocab_size=131)
    assert smaller.vocab_size == 131 != config.vocab_size


def test_modelcenters_defaults_are_its_own() -> None:
    config = compat.CPM1Config(dim_ff=256)
    assert (config.d_ff if "d_ff" in config else config.intermediate_size) == 256
    assert config.vocab_size == 30968
    with pytest.raises(ConfigError, match="dim_modle"):
        compat.BertConfig(dim_modle=3)


@pytest.mark.parametrize("family", OF_FLAGAI)
def test_init_from_json(family: str) -> None:
    door = {"bert": compat.BertForMaskLM, "glm": compat.GLMModel, "gpt2": compat.GPT2Model, "t5": compat.T5Model}[family]
    path = FOLDERS / OF_FLAGAI[family] / "config.json"
    plain = door.init_from_json(path)
    saving = door.init_from_json(config_file=path, checkpoint_activations=True, vocab_size=150)
    assert saving.config.vocab_size == 150 != plain.config.vocab_size
    saving = door.init_from_json(path, checkpoint_activations=True)
    saving.load_state_dict(plain.state_dict())
    ids = torch.randint(1, 80, (2, 9))
    batch = {"input_ids": ids, "labels": ids}
    gradients = []
    for model in (plain, saving):
        model.train()
        torch.manual_seed(0)
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        if gradient is None:
            assert gradients[1][name] is None
        else:
            assert difference(gradients[1][name], gradient) <= 1e-6, name


def test_only_the_config() -> None:
    built = compat.GLMModel.from_pretrain(FOLDERS, "glm", only_download_config=True)
    loaded = compat.GLMModel.from_pretrain(FOLDERS, "glm")
    assert built.config == loaded.config
    assert not torch.equal(built.backbone.embed.tokens.weight, loaded.backbone.embed.tokens.weight)
